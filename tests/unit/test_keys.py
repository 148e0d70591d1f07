"""Keys: never overwritten by accident, never readable by others, and files that are none are refused by name."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
import zmq.auth
from tests.support.program import complained, firstspike

from firstspike import access, cli, keys
from firstspike.errors import ConfigError, OutputError, UsageError


@pytest.fixture
def place(tmp_path):
    return tmp_path / "keys"


def test_a_pair_is_written_with_the_secret_for_its_owner_alone(place):
    made = keys.make(place / "server")
    assert (place / "server.key_secret").stat().st_mode & 0o777 == 0o600
    assert keys.server(place) == made
    assert keys.read(place / "server.key") == (made.public, None)
    assert sorted(path.name for path in place.iterdir()) == ["server.key", "server.key_secret"]
    assert made.secret.decode() not in repr(made)


def test_the_files_are_zeromqs_certificates_and_pyzmqs_are_read(place, tmp_path):
    made = keys.make(place / "server")
    assert zmq.auth.load_certificate(place / "server.key_secret") == (made.public, made.secret)
    public_file, secret_file = zmq.auth.create_certificates(tmp_path, "theirs")
    Path(secret_file).chmod(0o600)
    assert keys.pair(Path(secret_file)).public == keys.read(Path(public_file))[0]


def test_a_pair_that_is_there_stays_unless_forced(place):
    made = keys.make(place / "server")
    with pytest.raises(UsageError, match="--force"):
        keys.make(place / "server")
    assert keys.server(place) == made
    (place / "server.key").unlink()
    with pytest.raises(UsageError, match="key_secret: is there already"):
        keys.make(place / "server")
    assert keys.server(place) == made
    assert keys.make(place / "server", force=True) != made


def test_a_link_in_the_secrets_place_is_not_followed(place, tmp_path):
    place.mkdir()
    (place / "server.key_secret").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="is there already"):
        keys.make(place / "server")
    keys.make(place / "server", force=True)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", "-x", "a" * 65, "a b", "ä"])
def test_names_that_are_none(place, name):
    with pytest.raises(UsageError, match="no name"):
        keys.allow(place, name, "x" * 40)
    with pytest.raises(UsageError, match="no name"):
        keys.revoke(place, name)


def test_a_secret_that_others_can_read_is_refused_with_the_fix(place):
    keys.make(place / "server")
    (place / "server.key_secret").chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        keys.server(place)


def test_a_list_that_others_can_write_is_refused_with_the_fix(place):
    keys.allow(place, "desk", keys.make(place / "desk").public.decode())
    (place / "clients").chmod(0o777)
    with pytest.raises(ConfigError, match="chmod 755"):
        keys.allowed(place)


@pytest.mark.parametrize(
    "text", ["", "x" * 5000, 'public-key = "short"', "\xff\xfe", 'secret-key = "' + "a" * 40 + '"']
)
def test_files_that_are_no_certificates(place, text):
    place.mkdir()
    (place / "server.key_secret").write_text(text, "latin-1")
    with pytest.raises(ConfigError, match="no ZeroMQ certificate"):
        keys.server(place)


def test_a_pair_whose_halves_do_not_belong_together(place):
    one, other = keys.make(place / "a"), keys.make(place / "server")
    secret = place / "server.key_secret"
    secret.write_text(secret.read_text().replace(other.public.decode(), one.public.decode()))
    with pytest.raises(ConfigError, match="do not belong together"):
        keys.server(place)


def test_a_public_file_is_no_secret(place):
    keys.make(place / "server")
    with pytest.raises(ConfigError, match=r"name the \.key_secret file"):
        keys.pair(place / "server.key")


def test_forty_characters_that_are_more_than_32_bytes_are_no_key(place):
    with pytest.raises(ConfigError, match="no public key"):
        keys.allow(place, "desk", "#" * 40)
    for name in ("server.key_secret", "clients/desk.key"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(f'public-key = "{"#" * 40}"\nsecret-key = "{"#" * 40}"\n')
        (place / name).chmod(0o600)
    with pytest.raises(ConfigError, match="no ZeroMQ certificate"):
        keys.server(place)
    with pytest.raises(ConfigError, match="no ZeroMQ certificate"):
        access.AllowList(place)


def test_no_key_looks_like_an_option_of_a_command_line(place, monkeypatch):
    drawn = iter([b"-" + b"a" * 39, b"-" + b"b" * 39, b"c" * 40])
    monkeypatch.setattr(keys.zmq, "curve_keypair", lambda: (next(drawn), b"d" * 40))
    assert keys.make(place / "laptop").public == b"c" * 40


def test_a_key_that_goes_while_the_list_is_read_is_off_the_list_and_spoils_nothing(place, monkeypatch):
    for name in ("gone", "here"):
        keys.allow(place, name, keys.make(place / name).public.decode())
    found = Path.iterdir

    def iterdir(self):
        paths = list(found(self))
        keys.revoke(place, "gone")
        return paths

    monkeypatch.setattr(Path, "iterdir", iterdir)
    assert keys.allowed(place).keys() == {"here"}


def test_files_of_the_list_that_others_can_write_or_that_have_no_name_are_refused(place):
    path = keys.allow(place, "desk", keys.make(place / "desk").public.decode())
    path.chmod(0o664)
    with pytest.raises(ConfigError, match="chmod 644"):
        keys.allowed(place)
    path.chmod(0o644)
    path.rename(path.with_name("a\nb.key"))
    with pytest.raises(ConfigError, match="no name for a key"):
        keys.allowed(place)


def test_a_folder_that_may_not_be_looked_into_is_a_wrong_configuration(place, monkeypatch):
    keys.make(place / "server")

    def refuse(self, **_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(ConfigError, match="cannot be read: Permission denied"):
        access.remote("tcp://127.0.0.1:5600", str(place), place)


@pytest.mark.parametrize("name", ["server.key", "server.key_secret"])
def test_commands_name_a_folder_that_may_not_be_looked_into(place, monkeypatch, name):
    found = Path.exists

    def exists(self):
        if self.name == name:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        return found(self)

    monkeypatch.setattr(Path, "exists", exists)
    with pytest.raises(ConfigError, match="cannot be read: Permission denied"):
        keys.make(place / "server")


def test_a_full_disk_leaves_no_half_of_a_secret(place, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        keys.make(place / "server")
    assert list(place.iterdir()) == []


def test_a_name_keeps_its_key_unless_forced(place):
    one, other = keys.make(place / "a").public.decode(), keys.make(place / "b").public.decode()
    assert keys.allow(place, "desk", one) == keys.allow(place, "desk", one)
    with pytest.raises(UsageError, match="another key"):
        keys.allow(place, "desk", other)
    keys.allow(place, "desk", other, force=True)
    assert keys.allowed(place) == {"desk": other.encode()}
    keys.revoke(place, "desk")
    with pytest.raises(UsageError, match="nobody called desk"):
        keys.revoke(place, "desk")
    assert keys.allowed(place) == {}


def test_systemds_credentials_come_first(place, tmp_path, monkeypatch):
    given = keys.make(tmp_path / "credentials" / "server")
    (tmp_path / "credentials" / "server.key_secret").chmod(0o440)
    keys.make(place / "server")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    assert keys.server(place) == given


def test_where_keys_are(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    assert keys.folder("auto") in (tmp_path / "firstspike" / "keys", keys.SYSTEM_FOLDER)
    assert keys.folder("mine", tmp_path) == tmp_path / "mine"
    assert keys.folder("/abs", tmp_path) == Path("/abs")
    monkeypatch.setattr(os, "getuid", lambda: 0)
    assert keys.folder("auto") == keys.SYSTEM_FOLDER


@pytest.mark.parametrize(
    ("prepare", "says"),
    [
        (lambda place: None, "firstspike keys make"),
        (lambda place: keys.make(place / "server"), "firstspike keys allow"),
        (lambda place: (keys.make(place / "server"), (place / "server.key_secret").chmod(0o644)), "chmod 600"),
    ],
)
def test_tcp_without_all_that_it_needs_is_refused_with_the_fix(place, prepare, says):
    prepare(place)
    with pytest.raises(ConfigError, match=says):
        access.remote("tcp://127.0.0.1:5600", str(place), place)
    assert access.remote("", str(place), place) is None


@pytest.mark.parametrize("bad", ["tcp://*", "tcp://*:0", "tcp://h:65535", "udp://h:1", "tcp://a b:1", "tcp://h:1;x"])
def test_tcp_endpoints_that_are_none(place, bad):
    with pytest.raises(ConfigError, match="must be tcp://ADDRESS:PORT"):
        access.remote(bad, str(place), place)


def test_the_daemon_refuses_to_start_and_says_why(place, tmp_path):
    arguments = ["--set", "model.path=nmnist", "--set", "source.kind=simulated", "--set", "publish.tcp=tcp://*:5600"]
    arguments += ["--set", f"publish.keys={place}", "--set", f"publish.endpoint=ipc://{tmp_path}/p"]
    complained(firstspike("run", *arguments), os.EX_CONFIG, "publish.tcp", "firstspike keys make")
    complained(firstspike("check", *arguments), os.EX_CONFIG, "publish.tcp", "firstspike keys make")


def test_the_commands(place, tmp_path, capsys):
    out = tmp_path / "laptop"
    assert cli.main(["keys", "make", "--keys", str(place)]) == 0
    assert cli.main(["keys", "make", "--keys", str(place)]) == os.EX_USAGE
    assert cli.main(["keys", "client", "laptop", "--out", str(out)]) == 0
    assert cli.main(["keys", "allow", "laptop", str(out / "laptop.key"), "--keys", str(place)]) == 0
    assert cli.main(["keys", "allow", "desk", "no key", "--keys", str(place)]) == os.EX_CONFIG
    capsys.readouterr()
    assert cli.main(["keys", "list", "--json", "--keys", str(place)]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed["server"] == keys.server(place).public.decode()
    assert [client["name"] for client in listed["clients"]] == ["laptop"]
    assert cli.main(["keys", "list", "--keys", str(place)]) == 0
    printed = capsys.readouterr().out
    assert "laptop" in printed
    assert keys.server(place).secret.decode() not in printed
    assert cli.main(["keys", "revoke", "laptop", "--keys", str(place)]) == 0
    assert keys.allowed(place) == {}


def test_no_key_begins_as_an_option_does(tmp_path, monkeypatch):
    good = next(pair for pair in iter(zmq.curve_keypair, None) if not pair[0].startswith(b"-"))
    pairs = iter([(b"-" + good[0][1:], good[1]), good])
    monkeypatch.setattr(keys.zmq, "curve_keypair", lambda: next(pairs))
    assert keys.make(tmp_path / "a").public == good[0]


def test_what_is_no_key_and_no_file_is_called_so(tmp_path):
    done = firstspike("keys", "allow", "laptop", "LAPTOPS_PUBLIC_KEY", "--keys", tmp_path)
    complained(done, os.EX_CONFIG, "'LAPTOPS_PUBLIC_KEY': is no public key: 40 characters")
