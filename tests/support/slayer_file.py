"""Writes a CUBA LIF network as SLAYER exports it (lava-dl 0.6.0, `slayer/block/base.py`)."""

from __future__ import annotations

import numpy as np

from firstspike.cuba.network import Conv, Dense, Flatten, Pool


def write(network, path, *, pools_as_convs=False):
    """`pools_as_convs`: netx has no pools; a convolution with a group a channel is the same."""
    import h5py

    with h5py.File(path, "w") as file:
        layers = file.create_group("layer")
        first = layers.create_group("0")
        _type(first, "input")
        first.create_dataset("shape", data=np.array(network.input_shape))
        before = network.input_shape
        for number, (layer, shape) in enumerate(zip(network.layers, network.shapes(), strict=True), start=1):
            _layer(layers.create_group(str(number)), layer, before, shape, pools_as_convs)
            before = shape


def _layer(group, layer, before, shape, pools_as_convs):
    if isinstance(layer, Flatten):
        _type(group, "flatten")
        group.create_dataset("shape", data=np.array(shape[:1]))
        return
    dense, pool = isinstance(layer, Dense), isinstance(layer, Pool) and not pools_as_convs
    _type(group, "dense" if dense else "pool" if pool else "conv")
    group.create_dataset("shape", data=np.array(shape[:1] if dense else shape))
    weights = layer.weights
    if isinstance(layer, Pool):
        weights = np.broadcast_to(weights, (1 if pool else shape[0], 1, *weights.shape))
    group.create_dataset("weight", data=weights.astype(np.float32))
    if isinstance(layer, Conv | Dense) and layer.bias.any():
        group.create_dataset("bias", data=layer.bias.astype(np.float32))
    if dense and layer.delay.any():
        group.create_dataset("delay", data=layer.delay.astype(np.float32))
    if dense:
        group.create_dataset("inFeatures", data=before[0])
        group.create_dataset("outFeatures", data=shape[0])
    else:
        group.create_dataset("kernelSize", data=np.array(weights.shape[2:]))
        group.create_dataset("stride", data=np.array(layer.stride))
        group.create_dataset("padding", data=np.array(getattr(layer, "padding", (0, 0))))
        group.create_dataset("dilation", data=np.array((1, 1)))
    if not dense and not pool:
        group.create_dataset("inChannels", data=before[0])
        group.create_dataset("outChannels", data=shape[0])
        group.create_dataset("groups", data=shape[0] if isinstance(layer, Pool) else 1)
    neuron = {
        "type": b"LOIHI", "iDecay": layer.neuron.current_decay, "vDecay": layer.neuron.voltage_decay,
        "vThMant": layer.neuron.threshold, "refDelay": 1, "gradedSpike": False,
    }  # fmt: skip
    for key, value in neuron.items():
        group.create_dataset(f"neuron/{key}", data=value)


def _type(group, kind):
    group.create_dataset("type", (1,), "S10", [kind.encode()])
