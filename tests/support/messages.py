"""Messages as a daemon would send them."""

from __future__ import annotations

from firstspike.messages import (
    Decision,
    Energy,
    Evidence,
    FirstSpike,
    Health,
    Provisional,
    ProvisionalStamps,
    Stamps,
    WindowAnswer,
)
from firstspike.messages_energy import EnergySoFar
from firstspike.messages_health import Counters


def spike(step=9, known=None, label="3", candidates=None, agrees=True):
    """A first spike of a network of 24 steps whose output layer has the last 16; `step` None is a silent one."""
    network = None if step is None else step + 8
    return FirstSpike(
        step=step, network_step=network, known_step=network if known is None else known, frame_steps=16,
        network_steps=24, label=None if step is None else label,
        candidates=candidates or ([] if step is None else [label]), agrees=None if step is None else agrees,
    )  # fmt: skip


def decision(seq=0, epoch="e", **changes):
    window = WindowAnswer(
        index=seq, t_start_us=0, t_end_us=50_000, events=321, label="3", confidence=0.9, log_probabilities=[-0.1, -2.3],
        partial=False, backward=0, late=0, overflow=0, resets=0, out_of_bounds=0, cropped=0,
    )  # fmt: skip
    fields = {
        "epoch": epoch, "seq": seq, "label": "3", "confidence": 0.9, "status": "ok", "reasons": [],
        "backend": "emulator", "model": "m@1", "source": "a.raw", "t_us": 50_000, "first_spike_step": 17,
        "first_spike": spike(), "window": window,
        "evidence": Evidence(label="3", confidence=0.9, weight=1.0, windows=1),
        "stamps": Stamps(clock="monotonic", closed_ns=1, encoded_ns=2, inferred_ns=3, published_ns=4),
    }  # fmt: skip
    return Decision(**(fields | changes))


def provisional(seq=0, epoch="e", **changes):
    fields = {
        "epoch": epoch, "seq": seq, "decision_seq": seq, "label": "3", "backend": "emulator", "in_steps": False,
        "model": "m@1", "source": "a.raw", "t_us": 50_000, "window_index": seq, "events": 321,
        "first_spike": spike(agrees=None),
        "stamps": ProvisionalStamps(clock="monotonic", closed_ns=1, encoded_ns=2, spiked_ns=3, published_ns=4),
    }  # fmt: skip
    return Provisional(**(fields | changes))


def energy(seq=0, epoch="e", **changes):
    fields = {
        "epoch": epoch, "seq": seq, "subject": "host", "name": "host", "method": "integrated", "scope": "board",
        "meter": "ina3221:VDD_IN", "clock": "monotonic", "start_ns": 0, "end_ns": 10**9, "window_s": 1.0,
        "n_samples": 100, "effective_hz": 20.0, "baseline_w": 4.0, "baseline_u95_w": 0.1, "total_j": 5.0,
        "total_u95_j": 0.2, "dynamic_j": 1.0, "u95_j": 0.3, "inferences": 20, "since_start": EnergySoFar(),
    }  # fmt: skip
    return Energy(**(fields | changes))


def health(seq=0, epoch="e", state="running"):
    return Health(
        epoch=epoch, seq=seq, state=state, reasons=[], uptime_s=1.0, version="0", model="m@1", labels=["3", "4"],
        source="a.raw", counters=Counters(), backends=[],
    )  # fmt: skip
