from __future__ import annotations

import pytest
from tests.support.messages import decision

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


def test_nothing_has_no_quantiles_and_no_accuracy():
    assert quantiles([]) is None
    report = Evaluation(["3", "4"], {"a": "3"}).report({"a": "broken"})
    assert (report["accuracy"], report["latency_us"], report["n"]) == (None, None, 0)


def test_quantiles_are_values_that_occurred():
    assert quantiles([float(value) for value in range(100)]) == {"p50": 50.0, "p90": 90.0, "p99": 99.0, "max": 99.0}
