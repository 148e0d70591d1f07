"""The network's file and the limits: what is saved comes back, what is wrong is one sentence, never a traceback."""

import io
import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.networks import lenet, networks

from firstspike.errors import BundleError, FirstspikeError, NoInputError
from firstspike.ttfs.file import load, save
from firstspike.ttfs.limits import MAX_LAYERS, check
from firstspike.ttfs.network import Conv, Dense, Flatten, MaxPool, Network, Readout

READOUT = Readout(8, 60, 30)


def small():
    random = np.random.default_rng(0)
    conv = Conv(
        random.integers(-9, 10, (3, 2, 3, 3)).astype(np.int8), np.arange(3, dtype=np.int16), (1, 2), (1, 0), READOUT
    )
    dense = Dense(random.integers(-9, 10, (4, 27)).astype(np.int8), np.arange(4, dtype=np.int16), READOUT)
    return Network("gated", (2, 6, 8), 8, (conv, MaxPool((2, 1), (2, 1)), Flatten(), dense))


def same(one, other):
    assert (one.neuron, one.input_shape, one.input_steps) == (other.neuron, other.input_shape, other.input_steps)
    for a, b in zip(one.layers, other.layers, strict=True):
        assert type(a) is type(b)
        for field in a.__slots__:
            x, y = getattr(a, field), getattr(b, field)
            if isinstance(x, np.ndarray):
                assert x.dtype == y.dtype
                np.testing.assert_array_equal(x, y)
            else:
                assert x == y


@settings(deadline=None, max_examples=60)
@given(network=networks())
def test_a_saved_network_comes_back(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("network")
    save(network, folder / "one.npz")
    loaded = load(folder / "one.npz")
    same(loaded, network)
    save(loaded, folder / "two.npz")
    assert (folder / "one.npz").read_bytes() == (folder / "two.npz").read_bytes()


def test_shapes_and_frames():
    network = small()
    assert network.shapes() == [(3, 6, 3), (3, 3, 3), (27, 1, 1), (4, 1, 1)]
    assert [(f.start, f.end, f.last) for f in network.frames()] == [(0, 8, 16), (8, 16, 16), (8, 16, 16), (8, 16, 24)]


def test_save_refuses_what_load_would(tmp_path):
    with pytest.raises(BundleError, match="last layer must be weighted"):
        save(replace(small(), layers=small().layers[:2]), tmp_path / "n.npz")
    assert not (tmp_path / "n.npz").exists()


def parts(network=None):
    """The members of a saved network: (head, arrays)."""
    with io.BytesIO() as buffer:

        class Target:
            write_bytes = buffer.write

        save(network or small(), Target())
        archive = np.load(io.BytesIO(buffer.getvalue()), allow_pickle=False)
        return json.loads(archive["network"].tobytes()), {k: archive[k] for k in archive.files if k != "network"}


def write(path, head, arrays):
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    np.savez_compressed(path, network=np.frombuffer(text, np.uint8), **arrays)
    return path


def refused(path, *words):
    with pytest.raises(BundleError) as caught:
        load(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    assert len(text) < 500
    for word in words:
        assert word in text


HEAD_FAULTS = [
    (("schema",), 2, ["schema"]),
    (("neuron",), "lif", ["neuron", "lif"]),
    (("input_shape",), [2, 6], ["input_shape"]),
    (("input_shape",), [2, 0, 8], ["input_shape is 0"]),
    (("input_shape",), [60000, 60000, 60000], ["input_shape", "smaller"]),
    (("input_shape",), [2, 6.5, 8], ["input_shape"]),
    (("input_steps",), 0, ["input_steps is 0"]),
    (("input_steps",), 256, ["input_steps is 256"]),
    (("input_steps",), True, ["input_steps"]),
    (("input_steps",), None, ["input_steps"]),
    (("layers",), [], ["layers"]),
    (("layers", 0, "kind"), "attention", ["layer 0", "attention"]),
    (("layers", 0, "steps"), 0, ["layer 0", "steps is 0"]),
    (("layers", 0, "steps"), 256, ["layer 0", "steps is 256"]),
    (("layers", 0, "ramp"), 0, ["layer 0", "ramp is 0"]),
    (("layers", 0, "ramp"), -3, ["layer 0", "ramp is -3"]),
    (("layers", 0, "ramp"), 10**30, ["layer 0", "ramp"]),
    (("layers", 0, "rounding"), 60, ["layer 0", "rounding is 60"]),
    (("layers", 0, "rounding"), -1, ["layer 0", "rounding is -1"]),
    (("layers", 0, "stride"), [0, 1], ["layer 0", "stride is 0"]),
    (("layers", 0, "stride"), [-1, 1], ["layer 0", "stride is -1"]),
    (("layers", 0, "padding"), [3, 0], ["layer 0", "padding is 3"]),
    (("layers", 0, "padding"), "same", ["layer 0", "padding"]),
    (("layers", 1, "kernel"), [7, 1], ["layer 1 (MaxPool)", "larger than its input"]),
    (("layers", 1, "kernel"), [0, 1], ["layer 1 (MaxPool)", "kernel is 0"]),
    (("layers", 1, "extra"), 1, ["layer 1", "extra"]),
    (("layers", 3, "ramp"), 1 << 21, ["layer 3 (Dense)", "24 bits"]),
    (("layers", 3), {"kind": "flatten"}, ["'b3'", "no layer"]),
]


@pytest.mark.parametrize(("where", "value", "words"), HEAD_FAULTS)
def test_faults_in_the_head(where, value, words, tmp_path):
    head, arrays = parts()
    place = head
    for key in where[:-1]:
        place = place[key]
    place[where[-1]] = value
    refused(write(tmp_path / "n.npz", head, arrays), *words)


@pytest.mark.parametrize("key", ["schema", "neuron", "input_shape", "input_steps", "layers"])
def test_missing_keys(key, tmp_path):
    head, arrays = parts()
    del head[key]
    refused(write(tmp_path / "n.npz", head, arrays), key)


@pytest.mark.parametrize(
    ("key", "array", "words"),
    [
        ("w0", None, ["layer 0 (conv)", "'w0' is missing"]),
        ("b3", None, ["layer 3 (dense)", "'b3' is missing"]),
        ("w0", np.zeros((3, 2, 3, 3), np.float32), ["layer 0 (conv)", "<f4"]),
        ("w0", np.zeros((3, 2, 3, 3), np.int16), ["layer 0 (conv)", "<i2"]),
        ("w0", np.zeros((3, 18), np.int8), ["layer 0 (conv)", "2 dimensions"]),
        ("w0", np.zeros((0, 2, 3, 3), np.int8), ["layer 0 (Conv)", "empty"]),
        ("w0", np.zeros((3, 1, 3, 3), np.int8), ["layer 0 (Conv)", "channels"]),
        ("w0", np.asfortranarray(np.zeros((3, 2, 3, 3), np.int8)), ["layer 0 (conv)", "C order"]),
        ("w0", np.array([{}], object), ["layer 0 (conv)", "|O"]),
        ("b0", np.zeros(2, np.int16), ["layer 0 (Conv)", "2 biases for 3"]),
        ("b0", np.zeros(3, ">i2"), ["layer 0 (conv)", ">i2"]),
        ("w3", np.zeros((4, 28), np.int8), ["layer 3 (Dense)", "28 inputs"]),
        ("w9", np.zeros(3, np.int8), ["'w9'", "no layer"]),
    ],
)
def test_faults_in_the_arrays(key, array, words, tmp_path):
    head, arrays = parts()
    arrays.pop(key, None)
    if array is not None:
        arrays[key] = array
    np_path = tmp_path / "n.npz"
    np.savez(np_path, allow_pickle=True, network=np.frombuffer(json.dumps(head).encode(), np.uint8), **arrays)
    refused(np_path, *words)


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 5000, b'{"schema": ' + b"9" * 5000 + b"}"]
)
def test_heads_that_are_no_head(text, tmp_path):
    _, arrays = parts()
    refused(write(tmp_path / "n.npz", text, arrays))


def test_too_many_layers(tmp_path):
    head, arrays = parts()
    head["layers"] = head["layers"][:-1] + [{"kind": "flatten"}] * MAX_LAYERS
    refused(write(tmp_path / "n.npz", head, arrays), "layers")


def test_too_many_neurons():
    conv = Conv(np.zeros((256, 1, 1, 1), np.int8), np.zeros(256, np.int16), (1, 1), (0, 0), READOUT)
    with pytest.raises(BundleError, match="neurons"):
        check(Network("gated", (1, 512, 512), 8, (conv,)))


def test_a_bomb_is_not_unpacked(tmp_path):
    path = tmp_path / "bomb.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("w0.npy", "w", force_zip64=True) as member,
    ):
        for _ in range(160):
            member.write(bytes(1 << 20))
    assert path.stat().st_size < 1 << 20
    refused(path, "bytes: not a network")


def test_an_entry_that_lies_about_its_size(tmp_path):
    path = write(tmp_path / "n.npz", *parts())
    raw = bytearray(path.read_bytes())
    at = raw.rindex(b"PK\x01\x02")  # the central directory's last entry; its uncompressed size lies at 24
    raw[at + 24 : at + 28] = (7).to_bytes(4, "little")
    path.write_bytes(raw)
    refused(path)


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions(compression, tmp_path):
    path = tmp_path / "n.npz"
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("network.npy", b"x")
    refused(path, "compressed")


@pytest.mark.parametrize("content", [b"", b"PK", b"\x93NUMPY\x01\x00", b"not a network", bytes(5000)])
def test_files_of_another_kind(content, tmp_path):
    path = tmp_path / "n.npz"
    path.write_bytes(content)
    refused(path, "not a NumPy archive")


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(NoInputError, match="cannot be read"):
        load(tmp_path / "absent.npz")
    with pytest.raises(NoInputError, match="cannot be read"):
        load(tmp_path)


@settings(deadline=None, max_examples=400)
@given(seed=st.integers(0, 2**32 - 1), kind=st.sampled_from(["flip", "cut", "insert", "zero"]))
def test_damaged_files_never_raise_anything_else(seed, kind, tmp_path_factory):
    """A change either is harmless (the zip's own dates) or is refused: the checksums leave nothing between."""
    random = np.random.default_rng(seed)
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    save(small(), path)
    raw = bytearray(path.read_bytes())
    at = int(random.integers(len(raw)))
    match kind:
        case "flip":
            raw[at] ^= 1 << int(random.integers(8))
        case "cut":
            del raw[at:]
        case "insert":
            raw[at:at] = random.bytes(int(random.integers(1, 50)))
        case "zero":
            raw[at : at + 20] = bytes(len(raw[at : at + 20]))
    path.write_bytes(raw)
    try:
        loaded = load(path)
    except FirstspikeError as error:
        assert str(path) in str(error)  # noqa: PT017  (the other outcome is allowed too)
    else:
        same(loaded, small())


@settings(deadline=None, max_examples=300)
@given(seed=st.integers(0, 2**32 - 1), name=st.sampled_from(["network", "w0", "b0", "w3"]))
def test_mutated_members_with_right_checksums_are_refused_or_are_a_network(seed, name, tmp_path_factory):
    random = np.random.default_rng(seed)
    path, mutated = (tmp_path_factory.getbasetemp() / file for file in ("whole.npz", "mutated.npz"))
    save(small(), path)
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(mutated, "w") as target:
        for member in source.namelist():
            raw = bytearray(source.read(member))
            if member == f"{name}.npy":
                for _ in range(int(random.integers(1, 4))):
                    raw[int(random.integers(len(raw)))] = int(random.integers(256))
            target.writestr(member, bytes(raw))
    try:
        check(load(mutated))
    except FirstspikeError as error:
        assert str(mutated) in str(error)  # noqa: PT017  (the same)


def test_the_bound_names_the_layer_that_leaves_24_bits():
    big = Dense(np.full((2, 300), 127, np.int8), np.zeros(2, np.int16), Readout(255, 60, 0))
    ok = Dense(np.full((300, 1), 1, np.int8), np.zeros(300, np.int16), Readout(255, 60, 0))
    with pytest.raises(BundleError, match=r"layer 1 \(Dense\).*24 bits.*smaller weights"):
        check(Network("gated", (1, 1, 1), 8, (ok, big)))


def test_early_spikes_widen_the_bound():
    """The same weights pass gated and not quartz: an early layer before gives activations above its T."""
    early = Dense(np.full((250, 1), 127, np.int8), np.zeros(250, np.int16), Readout(100, 1, 0))
    sums = Dense(np.full((1, 250), 127, np.int8), np.zeros(1, np.int16), Readout(100, 80_000, 0))
    gated = Network("gated", (1, 1, 1), 255, (early, sums))
    assert check(gated)[1].highest < 1 << 23
    with pytest.raises(BundleError, match="layer 1"):
        check(replace(gated, neuron="quartz"))


def test_lenet_is_allowed():
    assert [bound.gate > 0 for bound in check(lenet("gated")).values()] == [True] * 4
