"""`firstspike convert` and `inspect` as a user meets them: files, output, exit codes, and every refusal."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from tests.support.onnx_nets import Net
from tests.support.program import complained, firstspike

from firstspike.bundle import open_bundle
from firstspike.cli import main
from firstspike.ttfs.file import load
from firstspike.ttfs.network import Conv, Dense

SHAPE = (1, 8, 8)


def network():
    return Net(SHAPE, 3).conv(4, (3, 3)).relu().pool("MaxPool", (2, 2), (2, 2)).flatten().dense(3)


def samples(n=60, seed=1):
    rng = np.random.default_rng(seed)
    return (rng.random((n, *SHAPE)) * (rng.random((n, *SHAPE)) < 0.6)).astype(np.float32)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A network and samples, never written to."""
    folder = tmp_path_factory.mktemp("inputs")
    network().save(folder / "net.onnx")
    x = samples()
    np.savez(folder / "x.npz", x=x)
    np.savez(folder / "labelled.npz", x=x, labels=np.arange(len(x)) % 3)
    return folder


@pytest.fixture
def convert(inputs, tmp_path, capsys):
    """Run the command; `net` and `data` replace the files, `steps` None leaves it out."""

    def call(*more, net=None, data=None, steps=8, out=None):
        argv = ["convert", str(net or inputs / "net.onnx"), "--calibration", str(data or inputs / "x.npz")]
        argv += [] if steps is None else ["--steps", str(steps)]
        code = main([*argv, "--out", str(out or tmp_path / "out" / "bundle"), *map(str, more)])
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def refused(convert, tmp_path):
    """The command ends with this code and one sentence, and has written nothing."""

    def call(code, *parts, **arguments):
        more = arguments.pop("more", ())
        found, out, err = convert(*more, **arguments)
        assert found == code, err
        assert out == ""
        said = [line for line in err.splitlines() if not line.startswith("convert: ")]
        assert len(said) == 1, err
        for part in parts:
            assert part in said[0]
        assert not (tmp_path / "out").exists()

    return call


def test_writes_a_bundle_that_runs(convert, inputs, tmp_path):
    code, out, _ = convert("--labels", "one, two,three", "--name", "demo", data=inputs / "labelled.npz")
    assert code == 0
    folder = tmp_path / "out" / "bundle"
    assert sorted(path.name for path in folder.iterdir()) == [
        "CARD.md", "ann.onnx", "bundle.json", "dense.onnx", "dense_fp16.onnx", "network.npz",
    ]  # fmt: skip
    assert [path.name for path in folder.parent.iterdir()] == ["bundle"]
    assert (folder / "ann.onnx").read_bytes() == (inputs / "net.onnx").read_bytes()
    manifest = open_bundle(folder).manifest
    assert (manifest.name, manifest.labels) == ("demo", ["one", "two", "three"])
    assert (manifest.input.steps, manifest.input.count_scale, manifest.input.height) == (8, 8, 8)
    made = load(folder / "network.npz")
    assert made.neuron == "gated"
    assert [layer.readout.steps for layer in made.layers if isinstance(layer, Conv | Dense)] == [8, 8]
    for text in ("node 'conv0' (Conv)", "same answer as the ANN", "accuracy there: ANN", f"{folder}: written"):
        assert text in out
    card = (folder / "CARD.md").read_text()
    assert "TODO" in card
    assert "node 'conv0' (Conv)" in card


def test_json_is_the_report(convert, inputs, tmp_path):
    code, out, _ = convert("--json", "--neuron", "quartz", data=inputs / "labelled.npz")
    assert code == 0
    found = json.loads(out)
    assert found["bundle"] == str(tmp_path / "out" / "bundle")
    assert found["digest"] == open_bundle(tmp_path / "out" / "bundle").digest
    assert found["samples"] == 60
    assert [layer["name"] for layer in found["layers"]] == ["node 'conv0' (Conv)", "node 'gemm4' (Gemm)"]
    assert found["snn_accuracy"] == found["layers"][-1]["accuracy"]
    assert load(tmp_path / "out" / "bundle" / "network.npz").neuron == "quartz"


def test_steps_of_each_layer(convert, tmp_path):
    code, _, _ = convert("--steps-per-layer", "16,4", steps=5)
    assert code == 0
    made = load(tmp_path / "out" / "bundle" / "network.npz")
    assert made.input_steps == 5
    assert [layer.readout.steps for layer in made.layers if isinstance(layer, Conv | Dense)] == [16, 4]


def test_the_same_input_gives_the_same_bytes(convert, tmp_path):
    for name in ("a", "b"):
        assert convert("--name", "same", out=tmp_path / name)[0] == 0
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


def test_windows_and_encoding_reach_the_manifest(convert, tmp_path):
    code, _, _ = convert(
        "--encoding", "first", "--fit", "centre", "--window-events", 500, "--hop", 100, "--min-events", 7
    )
    assert code == 0
    manifest = open_bundle(tmp_path / "out" / "bundle").manifest
    assert (manifest.input.encoding, manifest.input.fit) == ("first", "centre")
    assert (manifest.window.kind, manifest.window.size, manifest.window.hop) == ("count", 500, 100)
    assert manifest.decide.min_events == 7


def test_a_folder_that_holds_something_is_left_alone(convert, tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").write_text("mine")
    code, out, err = convert(out=tmp_path / "taken")
    assert (code, out) == (os.EX_IOERR, "")
    assert "exists and is not empty" in err
    assert [path.name for path in (tmp_path / "taken").iterdir()] == ["mine.txt"]


def test_a_place_that_cannot_be_written(convert, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = convert(out=tmp_path / "file" / "bundle")
    assert code == os.EX_IOERR
    assert f"{tmp_path / 'file' / 'bundle'}: cannot be" in err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_disk_that_fills_leaves_nothing(convert, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("firstspike.ttfs.convert.bundle.shutil.copyfile", full)
    code, out, err = convert()
    assert (code, out) == (os.EX_IOERR, "")
    assert "No space left on device" in err
    assert list((tmp_path / "out").iterdir()) == []


def test_wrong_usage_as_a_process(tmp_path):
    complained(firstspike("convert"), os.EX_USAGE, "NET.onnx", "--calibration", "--steps", "--out")
    for option, value in (("--steps", "many"), ("--neuron", "rate"), ("--steps-per-layer", "8,x"), ("--hop", "0")):
        argv = ["n.onnx", "--calibration", "x.npz", "--steps", "8", "--out", tmp_path / "out", option, value]
        complained(firstspike("convert", *argv), os.EX_USAGE, option, value)


# Bad input, issue 3: each with its code and its sentence


@pytest.mark.parametrize(
    ("more", "steps", "parts"),
    [
        ((), 0, ("--steps 0", "1 to 255")),
        ((), 1000, ("--steps 1000", "1 to 255")),
        (("--steps-per-layer", "8,1000"), 8, ("--steps-per-layer 1000", "1 to 255")),
        (("--steps-per-layer", "8,8,8"), 8, ("has 3 numbers", "node 'conv0' (Conv), node 'gemm4' (Gemm)")),
        (("--percentile", "0"), 8, ("--percentile 0", "above 0")),
        (("--percentile", "100.1"), 8, ("--percentile 100.1", "at most 100")),
        (("--labels", "a,b"), 8, ("--labels", "must be 3 different")),
    ],
)
def test_an_option_that_makes_no_sense(refused, more, steps, parts):
    refused(os.EX_USAGE, *parts, more=more, steps=steps)


def weight(value):
    net = network()
    weights = np.array(np.frombuffer(net.initial[0].raw_data, np.float32))
    weights[5] = value
    net.initial[0].raw_data = weights.tobytes()
    return net


def branch():
    net = Net(SHAPE).conv(2, (3, 3)).relu()
    seen = net.at
    net.conv(2, (1, 1)).relu().node("Add", seen, name="residual")
    return net.flatten().dense(3)


def dynamic():
    net = network()
    net.given = (1, 1, "height", 8)
    return net


def old():
    return Net(SHAPE, opset=5).conv(2, (3, 3)).relu().flatten().dense(3)


def too_wide():
    net = Net((1, 2, 2))
    net.node("Conv", net.constant("w", net.rng.normal(size=(2, 1, 3, 3))), shape=(2, 1, 1), name="wide")
    return net.relu().flatten().dense(3)


def unsupported():
    return Net(SHAPE).conv(2, (3, 3)).node("Sigmoid", name="squash").flatten().dense(3)


def grouped():
    net = Net((2, 8, 8))
    net.node("Conv", net.constant("w", net.rng.normal(size=(2, 1, 3, 3))), shape=(2, 6, 6), group=2, name="depth")
    return net.relu().flatten().dense(3)


def silent():
    net = network()
    weights = -np.abs(np.frombuffer(net.initial[0].raw_data, np.float32))
    net.initial[0].raw_data = weights.tobytes()
    net.initial[1].raw_data = np.full(4, -1, np.float32).tobytes()
    return net


def faint():
    """One channel among channels that are all but silent: half of the positive activations are next to nothing."""
    net = network()
    weights = np.array(np.frombuffer(net.initial[0].raw_data, np.float32)).reshape(4, -1)
    weights[1:] = 1e-42
    net.initial[0].raw_data = weights.tobytes()
    net.initial[1].raw_data = np.zeros(4, np.float32).tobytes()
    return net


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (lambda: weight(np.nan), ("constant 'w0'", "NaN or infinite")),
        (lambda: weight(-np.inf), ("constant 'w0'", "NaN or infinite")),
        (branch, ("node 'residual' (Add)", "branches")),
        (dynamic, ("'p'", "dynamic shape", "height")),
        (old, ("opset 5", "understood are")),
        (unsupported, ("node 'squash' (Sigmoid)", "not converted")),
        (grouped, ("node 'depth' (Conv)", "group = 2")),
        (too_wide, ("node 'wide' (Conv)", "larger than its input")),
        (silent, ("node 'conv0' (Conv)", "silent for all 60")),
        (faint, ("node 'conv0' (Conv)", "percentile 20", "scale of zero", "higher percentile")),
    ],
)  # fmt: skip
def test_a_network_that_is_refused(refused, make, parts, tmp_path):
    net = make()
    more = ("--percentile", "20") if make is faint else ()
    path = net.save(tmp_path / "bad.onnx")
    refused(os.EX_DATAERR, *parts, net=path, more=more)


def test_a_potential_that_no_integers_keep_in_24_bits(refused, tmp_path):
    net = Net((1, 8, 8)).flatten()
    ones = net.constant("ones", np.ones((3, 64)))
    net.node("Gemm", ones, net.constant("huge", [0, 0, 1e6]), shape=(3,), transB=1, name="huge")
    np.savez(tmp_path / "x.npz", x=samples())
    refused(
        os.EX_DATAERR, "node 'huge' (Gemm)", "no scale gives whole numbers",
        net=net.save(tmp_path / "n.onnx"), data=tmp_path / "x.npz", more=("--percentile", "0.1"), steps=1,
    )  # fmt: skip


def changed(value):
    x = samples()
    x[3, 0, 2, 1] = value
    return x


@pytest.mark.parametrize(
    ("arrays", "parts"),
    [
        ({"x": samples()[:, :, :7]}, ("(60, 1, 7, 8)", "must be (samples, 1, 8, 8)")),
        ({"x": samples()[:, 0]}, ("(60, 8, 8)",)),
        ({"x": (samples() * 255).astype(np.uint8)}, ("uint8", "floating point")),
        ({"x": changed(np.nan)}, ("1 values", "NaN or outside 0..1")),
        ({"x": changed(2)}, ("1 values", "NaN or outside 0..1")),
        ({"x": changed(-1)}, ("1 values", "NaN or outside 0..1")),
        ({"images": samples()}, ("no array 'x'",)),
        ({"x": samples(), "labels": np.full(60, 3)}, ("'labels'", "3 outputs")),
        ({"x": samples(), "labels": np.zeros(59, int)}, ("'labels'", "60 integers")),
    ],
)
def test_calibration_data_that_is_refused(refused, arrays, parts, tmp_path):
    np.savez(tmp_path / "bad.npz", **arrays)
    refused(os.EX_DATAERR, "bad.npz", *parts, data=tmp_path / "bad.npz")


def test_files_of_another_kind(refused, inputs, tmp_path):
    (tmp_path / "text").write_text("not a network")
    refused(os.EX_DATAERR, "not an ONNX file", net=tmp_path / "text")
    refused(os.EX_DATAERR, "not an ONNX file", net=inputs / "x.npz")
    refused(os.EX_DATAERR, "not a NumPy archive", data=inputs / "net.onnx")
    refused(os.EX_NOINPUT, "none.onnx: cannot be read", net=tmp_path / "none.onnx")
    refused(os.EX_NOINPUT, "none.npz: cannot be read", data=tmp_path / "none.npz")
    refused(os.EX_NOINPUT, "cannot be read", net=tmp_path)


# inspect


@pytest.fixture(scope="module")
def bundle(inputs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "bundle"
    argv = ["--calibration", str(inputs / "x.npz"), "--steps", "8", "--out", str(folder)]
    assert main(["convert", str(inputs / "net.onnx"), *argv]) == 0
    return folder


def test_inspect_without_data_prints_what_is_static(bundle, capsys):
    assert main(["inspect", str(bundle), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    # conv 4 k3 on 8×8: 4·6·6 neurons of fan-in 9; pooled to 4·3·3, dense to 3.
    assert [layer["neurons"] for layer in found["layers"]] == [144, 3]
    assert [layer["macs"] for layer in found["layers"]] == [1296, 108]
    assert found["total"]["eq9"] == (1296 + 144 * 16) + (108 + 3 * 16)
    assert (found["steps_to_answer"], found["steps"]) == (16, 24)
    assert found["activity"] is None
    assert main(["inspect", str(bundle)]) == 0
    shown = capsys.readouterr().out
    assert "147 an inference" in shown
    assert "name --data or --recordings" in shown


def test_inspect_with_data_counts_what_it_does(bundle, inputs, capsys):
    assert main(["inspect", str(bundle), "--data", str(inputs / "x.npz"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["inferences"] == 60
    # A pixel is silent where ⌊8(1 − p)⌋ = 8: only at p = 0 (`encode` lifts what lies within 10⁻⁴ of a step).
    assert found["input_informative"] == np.count_nonzero(samples() * 8 > 1e-4) / 60
    assert found["activity"][0]["inputs"] == found["input_informative"]
    assert 0 < found["total"]["informative"] < found["total"]["spikes"] == 147
    assert found["total"]["effective"] < found["total"]["synapses"]
    assert main(["inspect", str(bundle), "--data", str(inputs / "x.npz")]) == 0
    assert "effective ACs (NeuroBench)" in capsys.readouterr().out


def test_inspect_refuses_what_does_not_fit(bundle, inputs, tmp_path, capsys):
    np.savez(tmp_path / "x.npz", x=samples()[:, :, :5])
    for argv, code, part in (
        ((bundle, "--data", tmp_path / "x.npz"), os.EX_DATAERR, "must be (samples, 1, 8, 8)"),
        ((bundle, "--data", tmp_path / "none.npz"), os.EX_NOINPUT, "cannot be read"),
        ((tmp_path, "--data", inputs / "x.npz"), os.EX_NOINPUT, "no model bundle here"),
        ((bundle, "--recordings", tmp_path / "none.aedat4"), os.EX_NOINPUT, "none.aedat4"),
    ):
        assert main(["inspect", *map(str, argv)]) == code
        found = capsys.readouterr()
        assert found.out == ""
        assert part in found.err
    (bundle / "network.npz").rename(tmp_path / "kept")
    try:
        assert main(["inspect", str(bundle)]) == os.EX_CONFIG
    finally:
        (tmp_path / "kept").rename(bundle / "network.npz")
    assert "network.npz: missing" in capsys.readouterr().err
