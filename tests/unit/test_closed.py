"""What an ordinary user may not look into: commands go on without it, or name it; it is no fault of firstspike."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

import pytest

from firstspike import bundle, endpoints
from firstspike.cli import main
from firstspike.cli.reload import _configured
from firstspike.doctor import around
from firstspike.errors import OutputError
from firstspike.recorder import Rotation
from firstspike.recording_writer import FullError
from firstspike.worker import drivers, environments

NOBODY = 65534


@contextlib.contextmanager
def ordinary():
    """As a user to whom no folder of root's is open; tests may run as root, who may everything."""
    if os.geteuid() != 0:
        yield
        return
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


@pytest.fixture
def tmp_path():
    """Open to everybody, which pytest's own is not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def closed(tmp_path):
    """A folder with a folder in it, as systemd makes /var/lib/private: only its owner may look into it."""
    folder = tmp_path / "private"
    (folder / "inner").mkdir(parents=True)
    folder.chmod(0)
    yield folder
    folder.chmod(0o700)


def test_the_services_environments_are_closed_to_users_who_are_told(closed, tmp_path, monkeypatch):
    (tmp_path / "service").symlink_to(closed)  # as /var/lib/firstspike is, of a DynamicUser
    monkeypatch.delenv(environments.OVERRIDE, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    driver = drivers.load("openvino")
    for place in (tmp_path / "service" / "workers", closed / "inner" / "workers"):
        monkeypatch.setattr(environments, "SYSTEM_PLACE", place)
        with ordinary():
            assert environments.places() == [tmp_path / "data/firstspike/workers", place]
            found = environments.look(driver)
            assert environments.remove("openvino") is None
        assert found.state == "not installed"
        assert f"{place}, where the service's are, is not for you to look into" in found.reason


@pytest.mark.parametrize(
    "argv",
    [
        ("inspect", "inner/model"),
        ("evaluate", "inner"),
        ("simulate", "inner/x.aedat4"),
        ("check", "--config", "inner/config.toml"),
        ("run", "--config", "inner/config.toml"),
        ("workers", "list"),
    ],
)
def test_what_is_closed_is_named_with_a_code_that_the_service_manager_does_not_try_again(
    closed, tmp_path, monkeypatch, capsys, argv
):
    monkeypatch.setattr(environments, "SYSTEM_PLACE", closed / "inner")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv(environments.OVERRIDE, raising=False)
    argv = [str(closed / one) if one.startswith("inner") else one for one in argv]
    main(argv)  # imports what it needs, perhaps from where only root may look
    capsys.readouterr()
    with ordinary():
        code = main(argv)
    told = capsys.readouterr().err
    assert "a fault of firstspike" not in told
    if argv[0] == "workers":
        assert code == 0
    else:
        assert (code, str(closed) in told) == (os.EX_NOINPUT, True), told


def test_a_model_in_a_closed_folder_is_looked_for_among_those_that_came_along(closed, monkeypatch):
    monkeypatch.chdir("/")
    with ordinary():
        assert bundle.find("nmnist", closed / "inner").name == "nmnist"


def test_who_may_not_subscribe_is_told_which_group_may(closed, monkeypatch):
    monkeypatch.setattr(endpoints, "SERVICE", closed / "firstspike.pub")
    with ordinary():
        assert f"those of the service in {closed} are for the group" in endpoints.closed()
    monkeypatch.setattr(endpoints, "SERVICE", closed.parent / "nothing" / "firstspike.pub")
    assert endpoints.closed() == ""
    assert "firstspike keys list" in endpoints.closed("tcp://device:5600")


def test_a_recordings_place_is_looked_at_before_the_first_event_comes(closed, tmp_path):
    with ordinary(), pytest.raises(OutputError, match="cannot be written: Permission denied"):
        Rotation(closed / "out.raw").look(0)
    with pytest.raises(OutputError, match="cannot be written: No such file"):
        Rotation(tmp_path / "gone" / "out.raw").look(0)
    (tmp_path / "out.raw").touch()
    with pytest.raises(OutputError, match=r"out\.raw exists: name another file"):
        Rotation(tmp_path / "out.raw").look(0)
    Rotation(tmp_path / "out.raw", max_s=1.0).look(0)  # out-0001.raw does not
    with pytest.raises(FullError, match="less than the floor"):
        Rotation(tmp_path / "new.raw").look(1 << 60)
    assert {path.name for path in tmp_path.iterdir()} == {"private", "out.raw"}


def test_a_reload_asks_the_daemon_where_it_is_though_its_endpoint_was_changed(tmp_path, monkeypatch):
    running, other, config = tmp_path / "firstspike.pub", tmp_path / "other.pub", tmp_path / "config.toml"
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    config.write_text(f'[publish]\nendpoint = "ipc://{other}"\n')
    assert _configured(config) == f"ipc://{other}"  # none is there: that is what is told
    running.touch()
    assert _configured(config) == endpoints.AUTO
    other.touch()
    assert _configured(config) == f"ipc://{other}"
    config.write_text('[publish]\nendpoint = "tcp://*:1"\n')
    assert _configured(config) == endpoints.AUTO


def test_the_doctor_asked_by_root_looks_at_the_services_state(tmp_path, monkeypatch):
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    service = tmp_path / "var/lib/firstspike"
    service.mkdir(parents=True)
    (check,) = [one for one in around.installation(None, tmp_path) if one.name == "state folder"]
    assert check.text.startswith(str(service))
    service.chmod(0)
    with ordinary():
        (check,) = [one for one in around.installation(None, tmp_path) if one.name == "state folder"]
    assert str(service) not in check.text
    service.chmod(0o700)
