"""How well a bundle does on labelled recordings: a folder with a sub-folder for each label."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from firstspike.errors import DataError, NoInputError
from firstspike.messages import Decision, FirstSpike

ABSTAINED = "abstained"


@dataclass(slots=True)
class Tally:
    """What one recording's decisions added up to."""

    answer: str | None = None
    windows: int = 0
    windows_right: int = 0


@dataclass(slots=True)
class SpikeTally:
    """How deciding by the first output spike compares with deciding by the membrane, over the windows that spoke."""

    windows: int = 0
    membrane_right: int = 0
    right: int = 0
    """By first spike, ties decided by the membrane."""
    right_by_index: int = 0
    """By spikes alone, ties decided by the lowest index: what a device says that shows no membrane."""
    agree: int = 0
    ties: int = 0
    silent: int = 0
    """No output neuron spiked by itself: no answer by spikes, which counts as not right."""
    network_steps: list[int] = field(default_factory=list)
    """Steps of the whole network until the class was known."""
    steps: list[int] = field(default_factory=list)
    """The spike's step in the output layer's own frame."""
    lengths: tuple[int, int] = (0, 0)
    """Steps of the whole network and of the output layer's frame."""

    def add(self, first: FirstSpike, by_membrane: str, truth: str) -> None:
        """Take a window's first spike, its label by the membrane, and the true one."""
        self.windows += 1
        self.membrane_right += by_membrane == truth
        self.lengths = (first.network_steps, first.frame_steps)
        if first.step is None or first.known_step is None:
            self.silent += 1
            return
        self.right += first.label == truth
        self.right_by_index += first.candidates[0] == truth
        self.agree += first.label == by_membrane
        self.ties += len(first.candidates) > 1
        self.network_steps.append(first.known_step)
        self.steps.append(first.step)

    def report(self) -> dict[str, Any] | None:
        """The figures, or None if no window had a back end with spikes. Shares are of the windows."""
        if not self.windows:
            return None
        spiked = self.windows - self.silent
        return {
            "windows": self.windows,
            "accuracy": self.right / self.windows,
            "accuracy_ties_by_index": self.right_by_index / self.windows,
            "membrane_accuracy": self.membrane_right / self.windows,
            "agreement": self.agree / spiked if spiked else None,
            "ties": self.ties / self.windows,
            "silent": self.silent / self.windows,
            "known_step": _spread(self.network_steps, self.lengths[0]),
            "step": _spread(self.steps, self.lengths[1]),
        }


@dataclass(slots=True)
class Evaluation:
    """Collects decisions and compares them with the labels."""

    labels: Sequence[str]
    truths: dict[str, str]
    """Label of each recording's path."""
    tallies: dict[str, Tally] = field(default_factory=dict)
    latencies_ns: list[int] = field(default_factory=list)
    spikes: SpikeTally = field(default_factory=SpikeTally)
    answered_by: dict[str, int] = field(default_factory=dict)
    """Windows by the back end that answered."""
    unanswered: int = 0
    unanswered_because: str | None = None
    """Why the first of those got no answer."""

    def add(self, decision: Decision) -> None:
        """Take a decision; the last one's evidence is the recording's answer."""
        tally = self.tallies.setdefault(decision.source, Tally())
        tally.answer = decision.evidence.label
        if decision.window.label is not None:
            tally.windows += 1
            tally.windows_right += decision.window.label == self.truths[decision.source]
            if decision.first_spike is not None:
                self.spikes.add(decision.first_spike, decision.window.label, self.truths[decision.source])
        if decision.backend is not None:
            self.answered_by[decision.backend] = self.answered_by.get(decision.backend, 0) + 1
        else:
            self.unanswered += 1
            self.unanswered_because = self.unanswered_because or "; ".join(decision.reasons)
        self.latencies_ns.append(decision.stamps.published_ns - decision.stamps.closed_ns)

    def report(self, failed: dict[str, str]) -> dict[str, Any]:
        """The figures.

        Args:
            failed: recordings that could not be read to their end, with the reason. They count neither way.
        """
        names = [name for name in self.truths if name not in failed]
        answers = {name: self.tallies.get(name, Tally()).answer for name in names}
        right = sum(answers[name] == self.truths[name] for name in names)
        windows = sum(self.tallies[name].windows for name in names if name in self.tallies)
        windows_right = sum(self.tallies[name].windows_right for name in names if name in self.tallies)
        confusion: dict[str, dict[str, int]] = {}
        for name in names:
            row = confusion.setdefault(self.truths[name], {})
            answer = answers[name] if answers[name] is not None else ABSTAINED
            row[str(answer)] = row.get(str(answer), 0) + 1
        return {
            "accuracy": right / len(names) if names else None,
            "n": len(names),
            "abstained": sum(answer is None for answer in answers.values()),
            "window_accuracy": windows_right / windows if windows else None,
            "windows": windows,
            "confusion": confusion,
            "wrong": {name: answers[name] for name in names if answers[name] != self.truths[name]},
            "failed": failed,
            "first_spike": self.spikes.report(),
            "answered_by": self.answered_by,
            "unanswered": self.unanswered,
            "unanswered_because": self.unanswered_because,
            "latency_us": quantiles([value / 1000 for value in self.latencies_ns]),
        }


def labelled(folder: Path, labels: Sequence[str]) -> dict[str, str]:
    """The recordings below `folder` with their labels, in order of path.

    Raises:
        NoInputError: no such folder, or nothing in it.
        DataError: a sub-folder is not one of the model's labels.
    """
    if not folder.is_dir():
        raise NoInputError(f"{folder}: no such folder: evaluate takes one with a sub-folder for each label")
    found: dict[str, str] = {}
    for sub in sorted(path for path in folder.iterdir() if path.is_dir()):
        if sub.name not in labels:
            raise DataError(f"{sub}: {sub.name!r} is not a label of the model: {', '.join(labels)}")
        found |= {str(path): sub.name for path in recordings(sub)}
    if not found:
        raise NoInputError(f"{folder}: no recordings: evaluate takes a folder with a sub-folder for each label")
    return found


def recordings(folder: Path) -> Iterator[Path]:
    """The recordings below a folder, in order: files that are not hidden, and ROS 2 bags, which are folders."""
    for path in sorted(path for path in folder.iterdir() if not path.name.startswith(".")):
        if not path.is_dir() or (path / "metadata.yaml").exists():
            yield path
        elif not path.is_symlink():  # a link may lead back up
            yield from recordings(path)


def _spread(steps: list[int], of: int) -> dict[str, float] | None:
    found = quantiles([float(step) for step in steps])
    return found and {"mean": round(sum(steps) / len(steps), 2), **found, "of": of}


def quantiles(values: list[float]) -> dict[str, float] | None:
    """Nearest-rank quantiles, or None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    ranks = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
    found = {name: ordered[min(len(ordered) - 1, int(rank * len(ordered)))] for name, rank in ranks.items()}
    return {name: round(value, 1) for name, value in {**found, "max": ordered[-1]}.items()}
