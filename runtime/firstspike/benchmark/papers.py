"""Energy figures of papers, to stand beside one's own: other networks, chips and meters. Each says where it stands."""

from __future__ import annotations

from dataclasses import dataclass

QUARTZ = "Lenz, Orchard, Sheik 2023 (Quartz), table 3"
QUARTZ_ERRORS = f"{QUARTZ}, errors of table 2"


@dataclass(frozen=True, slots=True)
class Cited:
    """A row of a paper; None: it does not say."""

    name: str
    source: str
    accuracy: float | None = None
    latency_s: float | None = None
    static_w: float | None = None
    dynamic_w: float | None = None
    total_j: float | None = None
    """An inference, static power in it."""
    edp_js: float | None = None
    """`total_j` times the latency."""

    @property
    def dynamic_j(self) -> float | None:
        """Of an inference."""
        return None if self.dynamic_w is None or self.latency_s is None else self.dynamic_w * self.latency_s


CITED = (
    Cited("Loihi 1, Quartz LeNet, MNIST", QUARTZ_ERRORS, 0.9923, 4.91e-3, 5.23e-3, 31.95e-3, 182.46e-6, 0.9e-6),
    Cited("Loihi 1, rate coded, MNIST", f"{QUARTZ_ERRORS}, of Rueckauer et al. 2021", 0.9921, edp_js=4.38e-6),
    Cited("GPU, the ANN, MNIST", f"{QUARTZ} and §4.2, of Rueckauer et al. 2021", 0.9927, edp_js=222e-6),
    # The paper's "564 µJ" are mJ: 1543 mW for 365 ms.
    Cited("Loihi 1, Quartz, CIFAR10", QUARTZ_ERRORS, 0.7486, 0.365, 1.274, 0.269, 0.564, 206047e-6),
    Cited("Loihi 1, rate coded, CIFAR10", f"{QUARTZ_ERRORS}, of Rueckauer et al. 2021", 0.9148, edp_js=34926e-6),
    Cited("GPU, the ANN, CIFAR10", f"{QUARTZ}, of Rueckauer et al. 2021", edp_js=18924e-6),
)

NOTES = (
    "Chandarana et al. 2022, abstract: Loihi took up to 27 times less power and 5 times less energy than a Neural "
    "Compute Stick 2 for the same images.",
    "Seekings et al. 2024, abstract: hybrids on Loihi and a Jetson Nano took less energy than the ANN alone; the way "
    "between the devices was not measured. Its figures are drawn, not printed.",
)
"""What papers say without figures for a row."""
