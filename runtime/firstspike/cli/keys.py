"""`firstspike keys`: who this daemon is over TCP, and who may subscribe."""

from __future__ import annotations

import argparse
from pathlib import Path

from firstspike import keys
from firstspike.cli.output import emit, emit_json
from firstspike.errors import ConfigError


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Arguments of `keys`."""
    command = commands.add_parser(
        "keys",
        help="keys of CURVE for TCP: make, client, allow, revoke, list",
        description="The daemon publishes over TCP ([publish] tcp) only with a key of its own and a list of the keys "
        "that may subscribe. A running daemon takes notice of the list within a second. See docs/security.md.",
    )
    tasks = command.add_subparsers(dest="task", required=True, metavar="TASK")
    making = tasks.add_parser("make", help="make the daemon's key pair")
    _folder(making)
    _force(making)
    making.set_defaults(run=run_make)
    client = tasks.add_parser("client", help="make a subscriber's key pair, on the subscriber's machine")
    client.add_argument("name", metavar="NAME")
    client.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="default: the current folder")
    _force(client)
    client.set_defaults(run=run_client)
    allowing = tasks.add_parser("allow", help="let a subscriber in")
    allowing.add_argument("name", metavar="NAME")
    allowing.add_argument("public", metavar="PUBLIC_KEY", help="40 characters, or the subscriber's .key file")
    _folder(allowing)
    _force(allowing)
    allowing.set_defaults(run=run_allow)
    revoking = tasks.add_parser("revoke", help="let a subscriber in no longer; its connections are closed")
    revoking.add_argument("name", metavar="NAME")
    _folder(revoking)
    revoking.set_defaults(run=run_revoke)
    listing = tasks.add_parser("list", help="the daemon's public key, and who is allowed")
    _folder(listing)
    listing.add_argument("--json", action="store_true", help="one JSON object")
    listing.set_defaults(run=run_list)


def run_make(args: argparse.Namespace) -> int:
    """Make the daemon's pair."""
    place = keys.folder(args.keys)
    pair = keys.make(place / keys.SERVER, force=args.force)
    emit(f"{place / keys.SERVER}.key_secret: made; it stays on this machine")
    emit(f"public key, for subscribers (--server-key): {pair.public.decode()}")
    return 0


def run_client(args: argparse.Namespace) -> int:
    """Make a subscriber's pair."""
    pair = keys.make(args.out / args.name, force=args.force)
    emit(f"{args.out / args.name}.key_secret: made; it stays on this machine (--keys)")
    emit(f"on the daemon's machine: firstspike keys allow {args.name} '{pair.public.decode()}'")
    return 0


def run_allow(args: argparse.Namespace) -> int:
    """Put a key on the list."""
    public = args.public
    if Path(public).is_file() or (len(public) != keys.KEY_BYTES and ("/" in public or "." in public)):
        public = keys.read(Path(public))[0].decode()
    path = keys.allow(keys.folder(args.keys), args.name, public, force=args.force)
    emit(f"{args.name}: allowed ({path})")
    return 0


def run_revoke(args: argparse.Namespace) -> int:
    """Take a key off the list."""
    emit(f"{args.name}: no longer allowed ({keys.revoke(keys.folder(args.keys), args.name)} was removed)")
    return 0


def run_list(args: argparse.Namespace) -> int:
    """Print the daemon's public key and the list."""
    place = keys.folder(args.keys)
    try:
        own: str | None = keys.server(place).public.decode()
        fault = ""
    except ConfigError as error:
        own, fault = None, str(error)
    allowed = keys.allowed(place)
    if args.json:
        clients = [{"name": name, "public_key": key.decode()} for name, key in allowed.items()]
        emit_json({
            "schema": "firstspike.keys/1", "folder": str(place), "server": own, "reason": fault, "clients": clients,
        })  # fmt: skip
        return 0
    emit(f"daemon's public key  {own or fault}")
    for name, key in allowed.items():
        emit(f"allowed              {key.decode()}  {name}")
    if not allowed:
        emit("allowed              nobody: firstspike keys allow NAME PUBLIC_KEY")
    return 0


def _folder(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--keys", default="auto", metavar="DIR", help="[publish] keys: /etc/firstspike/keys or the user's own"
    )


def _force(command: argparse.ArgumentParser) -> None:
    command.add_argument("--force", action="store_true", help="take the place of a key that is there")
