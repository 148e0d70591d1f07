"""Bundles: what is accepted, and how everything else is refused."""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firstspike import bundle
from firstspike.errors import BundleError, FirstspikeError, NoInputError


def manifest(files):
    return {
        "schema": "firstspike.bundle/1", "name": "m", "version": "1", "labels": ["a", "b"],
        "input": {"channels": 2, "height": 4, "width": 4, "encoding": "count", "steps": 4, "count_scale": 4},
        "window": {"kind": "time", "size": 100, "hop": 100}, "decide": {}, "files": files, "licence": "x",
        "trained_on": [],
    }  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "network.npz").write_bytes(b"network")
    files = {"ttfs": {"path": "network.npz", "sha256": hashlib.sha256(b"network").hexdigest()}}
    (tmp_path / "bundle.json").write_text(json.dumps(manifest(files)))
    return tmp_path


def change(folder, **changes):
    path = folder / "bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_good_bundle(folder):
    opened = bundle.open_bundle(folder)
    assert opened.path("ttfs") == folder / "network.npz"
    assert opened.manifest.decide.min_events == 1
    with pytest.raises(BundleError, match="no file 'ann'"):
        opened.path("ann")


def test_the_digest_follows_the_contents(folder):
    first = bundle.open_bundle(folder).digest
    change(folder, version="2")
    assert bundle.open_bundle(folder).digest != first


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"schema": "firstspike.bundle/2"}, "schema"),
        ({"labels": ["a", "a"]}, "labels"),
        ({"labels": ["a"]}, "labels"),
        ({"files": {}}, "ttfs"),
        ({"files": {"ttfs": {"path": "../network.npz", "sha256": "0" * 64}}}, r"files\.ttfs\.path"),
        ({"files": {"ttfs": {"path": "gone.npz", "sha256": "0" * 64}}}, r"gone\.npz: missing"),
        ({"files": {"ttfs": {"path": "network.npz", "sha256": "0" * 64}}}, "the file was changed"),
        ({"window": {"kind": "time", "size": 10, "hop": 11}}, "hop 11 is larger"),
        ({"decide": {"logit_scale": -1.0}}, r"decide\.logit_scale"),
        ({"typo": 1}, "typo"),
    ],
)
def test_what_is_wrong_is_named(folder, changes, named):
    change(folder, **changes)
    with pytest.raises(BundleError, match=named):
        bundle.open_bundle(folder)


def test_no_bundle_here(tmp_path):
    with pytest.raises(NoInputError, match="no model bundle here"):
        bundle.open_bundle(tmp_path)
    with pytest.raises(NoInputError, match=r"or one of .*nmnist"):
        bundle.open_bundle(tmp_path)


def test_a_model_may_be_given_by_name(tmp_path, folder, monkeypatch):
    monkeypatch.setenv("FIRSTSPIKE_MODELS", str(folder.parent))
    assert bundle.find(folder.name, tmp_path / "elsewhere") == folder
    assert bundle.find("gone", tmp_path) == tmp_path / "gone"


@settings(max_examples=200, deadline=None)
@given(raw=st.one_of(st.binary(max_size=100), st.text(max_size=50).map(lambda text: f'{{"schema": {text}'.encode())))
def test_no_manifest_makes_anything_but_an_error_of_ours(tmp_path_factory, raw):
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "bundle.json").write_bytes(raw)
    with pytest.raises(FirstspikeError):
        bundle.open_bundle(folder)
