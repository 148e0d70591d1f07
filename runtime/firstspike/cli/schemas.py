"""`firstspike schemas`: the messages, the bundle and the configuration as JSON Schema."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from firstspike.bundle import Manifest
from firstspike.cli.output import emit
from firstspike.config import Config
from firstspike.errors import OutputError
from firstspike.messages import Snapshot
from firstspike.topics import TOPICS


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Arguments of `schemas`."""
    command = commands.add_parser(
        "schemas",
        help="print the JSON Schemas",
        description="Print the JSON Schemas of messages, snapshot, bundle manifest and configuration.",
    )
    command.add_argument("--out", type=Path, metavar="DIR", help="write one file each instead")
    command.set_defaults(run=run)


def schemas() -> dict[str, dict[str, Any]]:
    """All schemas by name."""
    models: dict[str, type[BaseModel]] = {topic.name: topic.model for topic in TOPICS}
    models |= {"snapshot": Snapshot, "bundle": Manifest, "config": Config}
    return {name: model.model_json_schema(by_alias=True) for name, model in models.items()}


def run(args: argparse.Namespace) -> int:
    """Print or write them."""
    if args.out is None:
        emit(json.dumps(schemas(), indent=2, ensure_ascii=False))
        return 0
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        for name, schema in schemas().items():
            text = json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
            (args.out / f"{name}.schema.json").write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{args.out}: cannot be written: {error.strerror}") from None
    return 0
