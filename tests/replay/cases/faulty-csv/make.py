"""Makes recording.csv: a simulated digit, then faults put into it on purpose."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from firstspike.simulate.scene import digit_sequence


def main() -> None:
    """Write the file beside this one."""
    _, events = next(iter(digit_sequence([5], seed=3)))
    events = events[:4000].copy()
    rng = np.random.default_rng(0)
    back = rng.choice(np.arange(100, 4000), 60, replace=False)
    events["t"][back] -= 700  # out of order, not far
    events["t"][2500:] -= 60_000  # the sensor's clock restarts
    outside = rng.choice(4000, 25, replace=False)
    events["x"][outside] += 34
    lines = [f"{event['t']},{event['x']},{event['y']},{event['p']}\n" for event in events]
    (Path(__file__).parent / "recording.csv").write_text("".join(lines), encoding="ascii")


if __name__ == "__main__":
    main()
