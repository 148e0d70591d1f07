"""Draws the energy table: dynamic energy an inference of each row, with its uncertainty, papers' rows marked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from firstspike.benchmark.energy import EnergyRow
from firstspike.benchmark.papers import CITED
from firstspike.errors import OutputError, UnavailableError

SUFFIXES = (".svg", ".png")


def draw(rows: Sequence[EnergyRow], title: str, path: Path) -> None:
    """Write the drawing.

    Args:
        rows: of back ends; those without an energy are named without a mark.
        title: above it.
        path: an SVG or PNG file, by its suffix.

    Raises:
        UnavailableError: matplotlib is not installed.
        OutputError: the file cannot be written.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError:
        raise UnavailableError("--draw needs matplotlib: pip install 'firstspike[plots]'") from None
    cited = [one for one in CITED if one.dynamic_j is not None]
    names = [f"{row.name}\n{row.method}" for row in rows] + [f"{one.name}\ncited" for one in cited]
    values = [row.dynamic_j for row in rows] + [one.dynamic_j for one in cited]
    errors = [row.u95_j or 0.0 for row in rows] + [0.0] * len(cited)
    with mpl.rc_context({"svg.hashsalt": "firstspike", "svg.fonttype": "none"}):
        figure = Figure(figsize=(8, 1.4 + 0.5 * len(names)), layout="constrained")
        axes = figure.add_subplot()
        for place, (value, error) in enumerate(zip(values, errors, strict=True)):
            paper = place >= len(rows)
            if value is None or value <= 0:
                axes.text(0.01, place, "no figure" if value is None else f"{value:.3g} J, below 0",
                          transform=axes.get_yaxis_transform(), va="center")  # fmt: skip
                continue
            modelled = not paper and rows[place].method == "modelled"
            # Lengths say nothing on a logarithmic scale, so there are no bars; and an error never reaches down to 0.
            axes.errorbar(
                value, place, xerr=[[min(error, 0.99 * value)], [error]] if error else None,
                fmt="D" if paper else "o", color="#888888" if paper else "#225588", capsize=3, markersize=8,
                markerfacecolor="white" if modelled else None,
            )  # fmt: skip
        axes.set_yticks(range(len(names)), names, fontsize=8)
        axes.invert_yaxis()
        axes.set_xscale("log")
        axes.margins(x=0.1, y=0.15)
        axes.grid(visible=True, axis="x", alpha=0.3)
        axes.set_xlabel("dynamic energy an inference, J (with 95 %; hollow: modelled; diamond: of a paper)")
        axes.set_title(title, fontsize=10)
        try:
            figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
        except OSError as error:
            raise OutputError(f"{path}: cannot be written: {error.strerror}") from None
