from __future__ import annotations

import json
from pathlib import Path

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.messages import decision, energy, health, provisional

from firstspike.cli.schemas import schemas
from firstspike.errors import DataError
from firstspike.messages import MAX_MESSAGE_BYTES, Decision, Health, Provisional, Snapshot, decode, encode

ROOT = Path(__file__).parents[2]


def test_a_message_survives_the_wire_and_its_bytes_are_stable():
    for message in (decision(), health(), provisional(), energy()):
        assert decode(encode(message), type(message)) == message
    assert encode(decision()) == encode(decision())
    assert msgpack.unpackb(encode(decision()))["schema"] == "firstspike.decision/1"


def test_unknown_fields_are_for_newer_readers():
    raw = msgpack.packb(msgpack.unpackb(encode(decision())) | {"later": 1})
    assert decode(raw, Decision) == decision()


def test_a_decision_from_before_there_was_a_first_spike_can_be_read():
    plain = msgpack.unpackb(encode(decision()))
    del plain["first_spike"]
    assert decode(msgpack.packb(plain), Decision) == decision(first_spike=None)


def test_another_schema_version_is_refused():
    raw = msgpack.packb(msgpack.unpackb(encode(decision())) | {"schema": "firstspike.decision/2"})
    with pytest.raises(DataError, match="schema"):
        decode(raw, Decision)


@given(st.binary(max_size=300))
def test_garbage_is_a_data_error(raw):
    for model in (Decision, Health, Provisional, Snapshot):
        with pytest.raises(DataError):
            decode(raw, model)


@pytest.mark.parametrize(
    "bomb",
    [
        b"\xdd\xff\xff\xff\xff",  # an array of 4 G elements
        b"\xdf\xff\xff\xff\xff",  # a map of as many
        b"\x91" * 100_000,  # nested arrays
        b"\xc6\xff\xff\xff\xff",  # a blob of 4 GB
        b"\x00" * (MAX_MESSAGE_BYTES + 1),
    ],
)
def test_bombs_are_refused(bomb):
    with pytest.raises(DataError):
        decode(bomb, Decision)


@pytest.mark.parametrize("name", sorted(schemas()))
def test_the_published_schemas_are_those_of_the_code(name):
    path = ROOT / "docs" / "schemas" / f"{name}.schema.json"
    assert json.loads(path.read_text(encoding="utf-8")) == schemas()[name], "run: make schemas"
