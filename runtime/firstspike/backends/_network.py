"""A bundle's integer network, for the back ends that run it themselves."""

from __future__ import annotations

from firstspike.bundle import Bundle
from firstspike.errors import BundleError
from firstspike.ttfs.file import load
from firstspike.ttfs.network import Network


def network_of(bundle: Bundle) -> Network:
    """Load the network, and see that it is the one that the manifest describes.

    Raises:
        BundleError: its file is damaged, or its input or output is not the manifest's.
    """
    path = bundle.path("ttfs")
    network = load(path)
    spec = bundle.manifest.input
    wanted = ((spec.channels, spec.height, spec.width), spec.steps)
    if (network.input_shape, network.input_steps) != wanted:
        raise BundleError(
            f"{path}: the network takes {network.input_shape} at {network.input_steps} steps, the "
            f"manifest's input says {wanted[0]} at {wanted[1]}"
        )
    classes, labels = network.shapes()[-1][0], len(bundle.manifest.labels)
    if classes != labels:
        raise BundleError(f"{path}: {classes} output neurons, but the manifest has {labels} labels")
    return network
