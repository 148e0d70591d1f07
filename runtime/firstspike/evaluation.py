"""How well a bundle does on labelled recordings: a folder with a sub-folder for each label."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from firstspike.errors import DataError, NoInputError
from firstspike.messages import Decision

ABSTAINED = "abstained"


@dataclass(slots=True)
class Tally:
    """What one recording's decisions added up to."""

    answer: str | None = None
    windows: int = 0
    windows_right: int = 0


@dataclass(slots=True)
class Evaluation:
    """Collects decisions and compares them with the labels."""

    labels: Sequence[str]
    truths: dict[str, str]
    """Label of each recording's path."""
    tallies: dict[str, Tally] = field(default_factory=dict)
    latencies_ns: list[int] = field(default_factory=list)

    def add(self, decision: Decision) -> None:
        """Take a decision; the last one's evidence is the recording's answer."""
        tally = self.tallies.setdefault(decision.source, Tally())
        tally.answer = decision.evidence.label
        if decision.window.label is not None:
            tally.windows += 1
            tally.windows_right += decision.window.label == self.truths[decision.source]
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


def quantiles(values: list[float]) -> dict[str, float] | None:
    """Nearest-rank quantiles, or None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    ranks = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
    found = {name: ordered[min(len(ordered) - 1, int(rank * len(ordered)))] for name, rank in ranks.items()}
    return {name: round(value, 1) for name, value in {**found, "max": ordered[-1]}.items()}
