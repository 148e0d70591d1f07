from __future__ import annotations

import pytest
from tests.support.messages import decision, spike

from firstspike.errors import DataError, NoInputError
from firstspike.evaluation import Evaluation, labelled, quantiles


def test_a_folder_of_labels(tmp_path):
    for name in ("3/b.raw", "3/deep/a.raw", "4/.hidden", "4/bag/metadata.yaml", "4/bag/bag_0.db3"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "labels.csv").touch()
    found = labelled(tmp_path, ["3", "4"])
    names = {"3/b.raw": "3", "3/deep/a.raw": "3", "4/bag": "4"}
    assert found == {str(tmp_path / name): label for name, label in names.items()}


def test_folders_that_cannot_be_evaluated(tmp_path):
    with pytest.raises(NoInputError, match="no such folder"):
        labelled(tmp_path / "gone", ["3"])
    with pytest.raises(NoInputError, match="no recordings"):
        labelled(tmp_path, ["3"])
    (tmp_path / "nine").mkdir()
    with pytest.raises(DataError, match="'nine' is not a label"):
        labelled(tmp_path, ["3"])


def test_the_last_evidence_is_the_answer_and_a_failed_recording_counts_neither_way():
    evaluation = Evaluation(["3", "4"], {"a.raw": "3", "b.raw": "4", "c.raw": "4", "d.raw": "3"})
    evaluation.add(decision(0))
    evaluation.add(decision(1, source="b.raw"))
    evaluation.add(decision(2, source="d.raw"))
    report = evaluation.report({"d.raw": "broken"})
    assert (report["n"], report["accuracy"], report["abstained"]) == (3, 1 / 3, 1)
    assert (report["windows"], report["window_accuracy"]) == (2, 0.5)
    assert report["confusion"] == {"3": {"3": 1}, "4": {"3": 1, "abstained": 1}}
    assert report["wrong"] == {"b.raw": "3", "c.raw": None}
    assert report["failed"] == {"d.raw": "broken"}


def test_the_first_spike_is_compared_with_the_membrane_over_the_windows_that_spoke():
    evaluation = Evaluation(["3", "4"], {"a.raw": "3"})
    silent_window = decision().window.model_copy(update={"label": None})
    for first in (
        spike(9),
        spike(11, candidates=["3", "4"]),  # a tie that the membrane and the lowest index decide alike
        spike(12, candidates=["2", "3"]),  # and one where the lowest index is wrong
        spike(1, known=16, label="4", agrees=False),  # early, wrong, and known only at the end of the input phase
        spike(None),
        None,  # a back end without spikes: counts nowhere here
    ):
        evaluation.add(decision(first_spike=first))
    evaluation.add(decision(window=silent_window))  # too few events: says nothing
    report = evaluation.report({})
    assert report["windows"] == 6
    assert report["first_spike"] == {
        "windows": 5, "accuracy": 3 / 5, "accuracy_ties_by_index": 2 / 5, "membrane_accuracy": 1.0, "agreement": 3 / 4,
        "ties": 2 / 5, "silent": 1 / 5,
        "known_step": {"mean": 18.0, "p50": 19.0, "p90": 20.0, "p99": 20.0, "max": 20.0, "of": 24},
        "step": {"mean": 8.25, "p50": 11.0, "p90": 12.0, "p99": 12.0, "max": 12.0, "of": 16},
    }  # fmt: skip


def test_silence_alone_has_no_steps_and_no_agreement():
    evaluation = Evaluation(["3", "4"], {"a.raw": "3"})
    evaluation.add(decision(first_spike=spike(None)))
    found = evaluation.report({})["first_spike"]
    assert (found["silent"], found["accuracy"], found["agreement"], found["known_step"]) == (1.0, 0.0, None, None)


def test_nothing_has_no_quantiles_and_no_accuracy():
    assert quantiles([]) is None
    report = Evaluation(["3", "4"], {"a": "3"}).report({"a": "broken"})
    assert (report["accuracy"], report["latency_us"], report["first_spike"], report["n"]) == (None, None, None, 0)


def test_quantiles_are_values_that_occurred():
    assert quantiles([float(value) for value in range(100)]) == {"p50": 50.0, "p90": 90.0, "p99": 99.0, "max": 99.0}
