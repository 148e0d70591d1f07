"""The stick's back end in the daemon: the emulator answers while no stick does, and what cannot be run is refused."""

from __future__ import annotations

import hashlib
import json
import shutil

import onnx
import pytest
from tests.support.program import ROOT, complained, firstspike
from tests.support.sticks import myriad, umockdev

from firstspike.backends import _ncs2_preflight as preflight

NMNIST = ROOT / "models" / "nmnist"


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("recording") / "digits.aedat4"
    made = firstspike("simulate", path)
    assert made.returncode == 0, made.stderr
    return path


def replay(folder, recording, command, *, plans=("ncs2", "emulator"), model=NMNIST, **options):
    lines = [f"{key} = {json.dumps(value)}" for key, value in options.items()]
    config = folder / "config.toml"
    section = ["[backend.ncs2]", f"command = {json.dumps(list(map(str, command)))}", *lines]
    config.write_text("\n".join(["[schedule]", f"plans = {json.dumps(list(plans))}", *section, ""]))
    return firstspike("replay", recording, "--config", config, "--model", model, "--speed", "max", "--json")


def decisions(done):
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_emulator_answers_every_window_while_the_stick_does_not_boot(tmp_path, recording):
    command = [*umockdev(tmp_path, preflight.UNBOOTED), myriad()]
    found = decisions(replay(tmp_path, recording, command, network="ann", connect_s=1.0))
    alone = decisions(replay(tmp_path, recording, command, plans=["emulator"]))
    assert len(found) > 10
    assert [(one["label"], one["window"]) for one in found] == [(one["label"], one["window"]) for one in alone]
    assert {(one["status"], one["backend"]) for one in found} == {("degraded", "emulator")}
    for one in found:
        assert "Can not init Myriad device: NC_ERROR; answered by emulator" in one["reasons"][0]


def test_the_stick_alone_that_does_not_boot_fails_each_window_by_name(tmp_path, recording):
    command = [*umockdev(tmp_path, preflight.BOOTED), myriad()]
    found = decisions(replay(tmp_path, recording, command, plans=["ncs2"], network="ann"))
    assert {(one["status"], one["label"]) for one in found} == {("degraded", None)}
    assert "03e7:f63b" in found[0]["reasons"][0]


def test_the_twin_answers_through_the_daemon(tmp_path, recording):
    found = decisions(replay(tmp_path, recording, [myriad()], network="ann", device="CPU"))
    assert {(one["status"], one["backend"]) for one in found} == {("ok", "ncs2")}
    alone = decisions(replay(tmp_path, recording, [myriad()], plans=["emulator"]))
    same = sum(one["label"] == other["label"] for one, other in zip(found, alone, strict=True))
    assert same >= 0.9 * len(alone)  # another network: figures of its own, mostly the same labels


def test_the_integer_network_answers_as_the_emulator_does(tmp_path, recording):
    if "dense_fp16" not in json.loads((NMNIST / "bundle.json").read_text())["files"]:
        pytest.skip("models/nmnist has no dense_fp16")
    found = decisions(replay(tmp_path, recording, [myriad()], device="CPU"))
    alone = decisions(replay(tmp_path, recording, [myriad()], plans=["emulator"]))
    assert {(one.pop("status"), one.pop("backend"), one.pop("plan")) for one in found} == {("ok", "ncs2", "ncs2")}
    for one in alone:
        del one["status"], one["backend"], one["plan"]
    assert found == alone


@pytest.mark.parametrize(
    ("opset", "shape", "text"),
    [(18, None, "it has opset 18, and at most 13 is read rightly"), (13, "batch", "without dynamic axes")],
)
def test_a_bundle_that_openvino_would_run_wrongly_is_refused_before_anything_starts(
    tmp_path, recording, opset, shape, text
):
    model = tmp_path / "newer"
    shutil.copytree(NMNIST, model)
    net = onnx.load(model / "ann.onnx")
    net.opset_import[0].version = opset
    if shape:
        net.graph.input[0].type.tensor_type.shape.dim[0].dim_param = shape
    onnx.save(net, model / "ann.onnx")
    manifest = json.loads((model / "bundle.json").read_text())
    manifest["files"]["ann"]["sha256"] = hashlib.sha256((model / "ann.onnx").read_bytes()).hexdigest()
    (model / "bundle.json").write_text(json.dumps(manifest))
    done = replay(tmp_path, recording, ["/does/not/exist"], model=model, network="ann")
    complained(done, 78, str(model), "backend.ncs2 cannot run it", text)
