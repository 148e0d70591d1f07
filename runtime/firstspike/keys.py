"""Keys of CURVE: who this daemon is, and which subscribers it lets in over TCP.

The files are ZeroMQ's certificates, as CZMQ and pyzmq write them: `NAME.key` holds a public key, `NAME.key_secret`
both. A folder of keys holds `server.key`, `server.key_secret`, and `clients/NAME.key` for everyone who is allowed.
"""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import zmq

from firstspike.errors import ConfigError, OutputError, UsageError

SERVER = "server"
CLIENTS = "clients"
KEY_BYTES = 40
"""Of a key as Z85 text; 32 as bytes."""
MAX_FILE_BYTES = 4096
MAX_CLIENTS = 10_000
SYSTEM_FOLDER = Path("/etc/firstspike/keys")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}", re.ASCII)
Z85 = re.compile(rb"[0-9a-zA-Z.:+=^!/*?&<>()\[\]{}@%$#-]{40}")


@dataclass(frozen=True, slots=True)
class Pair:
    """A key pair, as Z85 text."""

    public: bytes
    secret: bytes

    def __repr__(self) -> str:  # a secret is never printed, whatever prints its owner
        return f"Pair({self.public.decode()})"


def folder(wanted: str, base: Path | None = None) -> Path:
    """The folder of keys that a configuration means: `auto` is root's in /etc, else the user's own."""
    if wanted != "auto":
        return (base or Path.cwd()) / Path(wanted).expanduser()
    if os.getuid() == 0 or (SYSTEM_FOLDER / f"{SERVER}.key").exists():
        return SYSTEM_FOLDER
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "firstspike" / "keys"


def check_public(text: str) -> bytes:
    """A public key as Z85 text.

    Raises:
        ConfigError: it is none.
    """
    key = text.strip().encode("ascii", "replace")
    if Z85.fullmatch(key) is None:
        raise ConfigError(f"{text!r:.60}: is no public key: 40 characters of Z85, as `firstspike keys` prints them")
    return key


def make(path: Path, *, force: bool = False) -> Pair:
    """Make a pair: `path` + `.key` and `.key_secret`.

    Args:
        path: folder and name, without suffix.
        force: take the place of a pair that is there.

    Raises:
        UsageError: there is one already, or the name is none.
        OutputError: it cannot be written.
    """
    check_name(path.name)
    there = [name for name in (_public(path), _secret(path)) if name.exists() or name.is_symlink()]
    if there and not force:
        raise UsageError(f"{there[0]}: is there already: --force makes a new one, and whoever knows the old one is out")
    public, secret = zmq.curve_keypair()
    while public.startswith(b"-"):  # one of 85 would be taken for an option where it is typed
        public, secret = zmq.curve_keypair()
    pair = Pair(public, secret)
    _write(_secret(path), _text(pair.public, pair.secret), force=force)
    _write(_public(path), _text(pair.public, None), force=force)
    return pair


def allow(keys: Path, name: str, public: str, *, force: bool = False) -> Path:
    """Let a subscriber in.

    Raises:
        UsageError: another key has that name.
        ConfigError: it is no key.
        OutputError: it cannot be written.
    """
    check_name(name)
    key, path = check_public(public), keys / CLIENTS / f"{name}.key"
    if path.exists() and not force:
        if read(path)[0] == key:
            return path
        raise UsageError(f"{path}: {name} has another key already: --force puts this one in its place")
    _write(path, _text(key, None), force=True)
    return path


def revoke(keys: Path, name: str) -> Path:
    """Let a subscriber in no longer.

    Raises:
        UsageError: nobody is called so.
        OutputError: it cannot be removed.
    """
    check_name(name)
    path = keys / CLIENTS / f"{name}.key"
    try:
        path.unlink()
    except FileNotFoundError:
        raise UsageError(f"{path}: nobody called {name} is allowed: `firstspike keys list` tells who is") from None
    except OSError as error:
        raise OutputError(f"{path}: cannot be removed: {error.strerror}") from None
    return path


def server(keys: Path) -> Pair:
    """The daemon's pair; systemd's credentials (`LoadCredential=server.key_secret:…`) come before the folder.

    Raises:
        ConfigError: there is none, it is no pair, or others can read it.
    """
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    path = keys / f"{SERVER}.key_secret"
    if credentials and (given := Path(credentials) / path.name).exists():
        return pair(given, private=False)
    if not path.exists():
        raise ConfigError(f"{path}: the daemon has no key: run `firstspike keys make --keys {keys}`")
    return pair(path)


def pair(path: Path, *, private: bool = True) -> Pair:
    """Read a pair from its secret file.

    Args:
        path: the file.
        private: refuse a file that others can read.

    Raises:
        ConfigError: it cannot be read, it is no pair, or others can read it.
    """
    public, secret = read(path)
    if secret is None:
        raise ConfigError(f"{path}: holds no secret key: name the .key_secret file")
    mode = path.stat().st_mode & 0o777
    if private and mode & 0o077:
        raise ConfigError(f"{path}: others can read this secret key (mode {mode:04o}): chmod 600 {path}")
    if zmq.curve_public(secret) != public:
        raise ConfigError(f"{path}: its public and secret key do not belong together: make a new pair")
    return Pair(public, secret)


def read(path: Path) -> tuple[bytes, bytes | None]:
    """Public and secret key of a certificate; the secret one is None where there is none.

    Raises:
        ConfigError: it cannot be read, or is no certificate.
    """
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    found = dict(re.findall(rb'^\s*(public-key|secret-key)\s*=\s*"([^"\n]*)"', raw, re.MULTILINE))
    if len(raw) > MAX_FILE_BYTES or b"public-key" not in found or any(not Z85.fullmatch(key) for key in found.values()):
        raise ConfigError(f"{path}: is no ZeroMQ certificate: `firstspike keys` makes them")
    return found[b"public-key"], found.get(b"secret-key")


def allowed(keys: Path) -> dict[str, bytes]:
    """Who is let in: public keys by name.

    Raises:
        ConfigError: the folder cannot be read, others can write to it, or a file in it is no certificate.
    """
    place = keys / CLIENTS
    try:
        mode = place.stat().st_mode & 0o777
        paths = sorted(place.glob("*.key"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError(f"{place}: cannot be read: {error.strerror}") from None
    if mode & 0o022:
        raise ConfigError(f"{place}: others can write to this list of who is allowed: chmod 755 {place}")
    if len(paths) > MAX_CLIENTS:
        raise ConfigError(f"{place}: more than {MAX_CLIENTS} keys")
    return {path.stem: read(path)[0] for path in paths}


def check_name(name: str) -> None:
    """Refuse what is no name of a key: it becomes a file's.

    Raises:
        UsageError: it is none.
    """
    if NAME.fullmatch(name) is None:
        raise UsageError(f"{name!r:.70}: is no name for a key: up to 64 letters, digits, and _ . @ -")


def _public(path: Path) -> Path:
    return path.with_name(f"{path.name}.key")


def _secret(path: Path) -> Path:
    return path.with_name(f"{path.name}.key_secret")


def _text(public: bytes, secret: bytes | None) -> str:
    what = "public" if secret is None else "SECRET: whoever has this file is its owner"
    lines = [f"# ZeroMQ CURVE certificate, made by firstspike: {what}", "metadata", "curve"]
    lines.append(f'    public-key = "{public.decode()}"')
    if secret is not None:
        lines.append(f'    secret-key = "{secret.decode()}"')
    return "\n".join(lines) + "\n"


def _write(path: Path, text: str, *, force: bool) -> None:
    """Write a file, whole or not at all; without `force` only where there is none. A secret is its owner's alone."""
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as stream:
            stream.write(text)
            os.fchmod(stream.fileno(), 0o600 if path.suffix == ".key_secret" else 0o644)
            stream.flush()
            os.fsync(stream.fileno())
        try:
            if force:
                os.replace(stream.name, path)  # noqa: PTH105 (a name, not a Path)
            else:
                os.link(stream.name, path)  # fails where another was quicker
        finally:
            Path(stream.name).unlink(missing_ok=True)
    except FileExistsError:
        raise UsageError(f"{path}: is there already: --force puts a new one in its place") from None
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}") from None
