"""Bundles of two parts and the plans that place them: what is accepted, and what is refused before anything starts."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.unit.test_bundle import manifest

from firstspike import plugins
from firstspike.bundle import open_bundle
from firstspike.config_layers import Layers
from firstspike.config_plugins import BackendChoice, backend_choices
from firstspike.errors import BundleError
from firstspike.hybrid import place
from firstspike.hybrid.back import bytes_of
from firstspike.hybrid.chain import ChainBackend
from firstspike.types import Spikes
from firstspike.worker.back import description

ROOT = Path(__file__).parents[2]
HYBRID, NMNIST = ROOT / "models" / "dvs128-hybrid", ROOT / "models" / "nmnist"


def choices(*plans, **sections):
    faults = []
    return backend_choices(sections, plans, Layers(), faults), faults


def chosen(plan, **sections):
    (choice,), faults = choices(plan, **sections)
    assert not faults
    return choice


def written(folder, *, steps=16, encoding="frames", parts=None, roles=("front", "back")):
    files = {}
    for role in roles:
        (folder / role).write_bytes(role.encode())
        files[role] = {"path": role, "sha256": hashlib.sha256(role.encode()).hexdigest()}
    made = manifest(files)
    made["input"] |= {"encoding": encoding, "steps": steps}
    made["parts"] = {"interval": 4} if parts is None else parts
    (folder / "bundle.json").write_text(json.dumps(made))
    return folder


def test_a_bundle_with_parts(tmp_path):
    opened = open_bundle(written(tmp_path))
    assert opened.manifest.parts.interval == 4
    assert opened.path("front").name == "front"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"steps": 15}, "15 steps do not divide by an interval of 4"),
        ({"parts": {"interval": 0}}, "parts.interval"),
        ({"parts": {"interval": 256}}, "parts.interval"),
        ({"encoding": "count"}, "a bundle with parts takes 'frames'"),
        ({"roles": ("front",)}, "no entry 'back'"),
        ({"roles": ("back", "ttfs")}, "no entry 'front'"),
        ({"parts": {}}, "parts.interval: missing"),
        ({"steps": 4097}, "input.steps"),
    ],
)
def test_parts_that_do_not_fit_are_refused_by_name(tmp_path, changes, says):
    with pytest.raises(BundleError, match=says):
        open_bundle(written(tmp_path, **changes))


def test_frames_are_for_bundles_with_parts_alone(tmp_path):
    made = json.loads((written(tmp_path, roles=("front", "back", "ttfs")) / "bundle.json").read_text())
    made["parts"] = None
    (tmp_path / "bundle.json").write_text(json.dumps(made))
    with pytest.raises(BundleError, match="'frames' is for bundles with parts"):
        open_bundle(tmp_path)


def test_a_chain_has_the_options_of_its_parts():
    choice = chosen("emulator+ov", ov={"kind": "openvino", "threads": 2})
    assert (choice.name, choice.kind) == ("emulator+ov", "emulator+openvino")
    assert [part.name for part in choice.parts] == ["emulator", "ov"]
    assert choice.parts[1].options.threads == 2


def test_a_chain_with_a_back_end_that_does_not_exist_is_a_fault_of_the_configuration():
    found, faults = choices("emulator+nothing", "emulator")
    assert [choice.name for choice in found] == ["emulator"]
    assert len(faults) == 1
    assert "'nothing'" in faults[0]


@pytest.mark.parametrize("plan", ["emulator", "emulator+emulator"])
def test_the_emulator_runs_both_parts_and_says_what_went_between(plan):
    backend = place.make(chosen(plan), open_bundle(HYBRID))
    assert isinstance(backend, ChainBackend)
    assert backend.name == plan
    frames = (np.random.default_rng(3).random((16, 2, 64, 64)) < 0.01).astype(np.uint8)
    answer = backend.infer(Spikes(16, np.empty((0, 0, 0), np.uint8), 500, frames=frames), 1.0)
    assert answer.potential.shape == (7,)
    assert answer.parts[0].link_bytes == np.prod(backend_input(open_bundle(HYBRID)))
    assert answer.parts[0].spikes > 0


def backend_input(bundle):
    from firstspike.hybrid.onnx_run import Chain

    return Chain(bundle.path("back").read_bytes()).input_shape


@pytest.mark.parametrize(
    ("plan", "model", "says"),
    [
        ("null", HYBRID, "names 1 back end, the model dvs128-hybrid has the parts front and back"),
        ("emulator+emulator+emulator", HYBRID, "names 3 back ends"),
        ("null+emulator", HYBRID, "'null' cannot run the model's front: name one of .*emulator"),
        ("emulator+null", HYBRID, "'null' cannot run the model's back"),
        ("emulator+definition", HYBRID, "'definition' cannot run the model's back: name one of .*openvino"),
        ("emulator+null", NMNIST, "is a chain, but the model nmnist has one part"),
    ],
)
def test_a_plan_that_does_not_fit_the_model_is_refused_before_anything_starts(plan, model, says):
    with pytest.raises(BundleError, match=says):
        place.make(chosen(plan), open_bundle(model))


def test_a_back_of_another_shape_is_refused(tmp_path):
    folder = tmp_path / "hybrid"
    shutil.copytree(HYBRID, folder)
    made = json.loads((folder / "bundle.json").read_text())
    made["parts"]["interval"] = 1
    (folder / "bundle.json").write_text(json.dumps(made))
    with pytest.raises(BundleError, match=r"back\.onnx"):
        place.make(chosen("emulator"), open_bundle(folder))


def test_a_worker_is_told_to_take_counts_for_activations():
    bundle = open_bundle(HYBRID)
    shape = backend_input(bundle)
    told = description(bundle, shape)
    interval = bundle.manifest.parts.interval
    counts = np.arange(interval + 1, dtype=np.uint8)
    # What every driver computes of what it is sent.
    np.testing.assert_array_equal((told["steps"] - (interval - counts)) * told["scale"], counts)
    assert (told["channels"], told["height"], told["width"]) == shape
    assert bytes_of(bundle, shape) == bundle.path("back").read_bytes()


def test_every_other_back_end_of_a_shipped_model_is_made_as_before():
    choice = BackendChoice("emulator", "emulator", plugins.load("backends", "emulator").Options())
    assert place.make(choice, open_bundle(NMNIST)).name == "emulator"


def test_plans_that_name_one_back_end_for_the_same_part_share_it():
    parts, bundle = place.Parts(), open_bundle(HYBRID)
    one, two, other = (
        place.make(chosen(plan, one={"kind": "emulator"}), bundle, parts)
        for plan in ("emulator+emulator", "one+emulator", "emulator+one")
    )
    assert one._back is two._back
    assert one._front is other._front
    assert len({id(part) for plan in (one, two, other) for part in (plan._front, plan._back)}) == 4
    closed = []
    one._back.close = lambda: closed.append("back")
    one.close()
    assert closed == []  # whoever made the parts ends them, once
    parts.close()
    parts.close()
    assert closed == ["back"]


def test_a_chain_of_its_own_closes_its_parts():
    chain, closed = place.make(chosen("emulator"), open_bundle(HYBRID)), []
    chain._front.close, chain._back.close = (lambda: closed.append("front")), (lambda: closed.append("back"))
    chain.close()
    assert closed == ["front", "back"]
