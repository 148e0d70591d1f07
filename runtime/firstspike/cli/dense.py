"""`firstspike dense`: give bundles the form in which accelerators run them."""

from __future__ import annotations

import argparse
from pathlib import Path

from firstspike.cli.output import emit
from firstspike.ttfs.convert.bundle import add_dense


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Arguments of `dense`."""
    command = commands.add_parser(
        "dense",
        help="give a bundle the form that accelerators run",
        description="Write a bundle's integer network as ONNX (dense.onnx, the same answers as the emulator's, and "
        "dense_fp16.onnx for devices that compute in half precision) and seal the bundle anew. `firstspike convert` "
        "does it by itself; this is for bundles that were made before. Only gated neurons have this form.",
    )
    command.add_argument("folders", type=Path, nargs="+", metavar="DIR")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write them, one bundle after another."""
    for folder in args.folders:
        bundle = add_dense(folder)
        sizes = (f"{bundle.path(role).name} {bundle.path(role).stat().st_size} B" for role in ("dense", "dense_fp16"))
        emit(f"{folder}: {', '.join(sizes)}; digest {bundle.digest}")
    return 0
