"""The count of a model with a spiking front, as a table for a person."""

from __future__ import annotations

from collections.abc import Iterator

from firstspike.bundle import Bundle
from firstspike.hybrid.count import EVENT_BYTES, PartsCount

_STATIC = (("neurons", "neurons"), ("parameters", "parameters"), ("synapses", "synapses"), ("updates", "updates"))
_SHOWN = (("spikes in", "inputs"), ("spikes out", "spikes"), ("syn. ops", "synaptic"))


def lines(bundle: Bundle, found: PartsCount) -> Iterator[str]:
    """Front, link, back and the sum."""
    manifest, shown = bundle.manifest, found.windows > 0
    form = "decides alone" if found.interval is None else f"an accumulator of {found.interval} steps and an ANN back"
    classes = len(manifest.labels)
    yield f"{manifest.name} {manifest.version}: a spiking front of {found.steps} steps, {form}; {classes} classes"
    columns = _STATIC + (_SHOWN if shown else ())
    yield (
        f"\n{'front':<10} {'shape':<13}"
        + "".join(f"{title:>12}" for title, _ in columns)
        + ("          nJ" if shown else "")
    )
    for layer in found.front:
        row = "".join(_cell(getattr(layer, name)) for _, name in columns) + (_cell(layer.modelled_nj) if shown else "")
        yield f"{layer.number:>2} {layer.kind:<7} {'×'.join(map(str, layer.shape)):<13}" + row
    row = "".join(_cell(found.total(name)) for _, name in columns) + (_cell(found.front_nj) if shown else "")
    yield f"{'total':<24}" + row
    if found.link_shape is not None:
        sides = "×".join(map(str, found.link_shape))
        yield f"\nlink       {found.link_bytes} bytes a window as counts ({sides}, a byte each)"
        if found.event_bytes is not None:
            yield f"           {found.event_bytes:.0f} bytes it would be as a list of spikes, {EVENT_BYTES} bytes each"
        yield from _back(found)
    yield ""
    if not shown:
        yield "shown      nothing: name --recordings to count spikes, operations and energy"
        return
    yield f"shown      {found.windows} windows; spikes and operations are means, every spike is informative"
    if found.wraps:
        yield f"           {found.wraps:.1f} currents a window left 24 bits: weights or decays are too strong for Loihi"
    front, back = found.front_nj, found.back_nj
    if front is not None and (found.link_shape is None or back is not None):
        total = front + (back or 0.0)
        yield (
            f"modelled   {total / 1e3:.2f} µJ a window: front {front / 1e3:.2f} (Loihi 1: Davies 2018), back "
            f"{(back or 0.0) / 1e3:.2f} (MACs of 32 bits: Horowitz 2014); by counting, not by a meter, without the link"
        )


def _back(found: PartsCount) -> Iterator[str]:
    if found.back is None:
        yield f"\nback       not counted: {found.back_reason}"
        return
    yield f"\n{'back':<10} {'shape':<13}{'parameters':>12}{'MACs':>12}"
    for layer in found.back:
        shape = "×".join(map(str, layer.shape))
        yield f"{layer.number:>2} {layer.kind:<7} {shape:<13}{layer.parameters:>12}{layer.macs:>12}"
    yield f"{'total':<24}{sum(layer.parameters for layer in found.back):>12}{found.macs:>12}"


def _cell(value: float | None) -> str:
    return f"{'–' if value is None else value if isinstance(value, int) else f'{value:.1f}':>12}"
