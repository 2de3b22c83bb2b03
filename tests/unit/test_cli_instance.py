"""Finding an instance, the data directory, ports."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.cli import ports
from gateway.cli.command import Invocation
from gateway.cli.dev import choose_port, refuse_open_host
from gateway.cli.dev_data import DataDir
from gateway.cli.errors import CliError, Exit
from gateway.cli.instance import DevFile, SmtpAddress, find_target, remove_dev_file, running_dev, write_dev_file
from gateway.cli.local import environment
from gateway.cli.status import mode_of


def dev_file(pid: int) -> DevFile:
    return DevFile(
        url="http://127.0.0.1:3003",
        admin_token="admin",
        user_token="user",
        database_url="postgresql://postgres@127.0.0.1:5/postgres",
        redis_url=None,
        smtp=SmtpAddress("127.0.0.1", 2525),
        inbox_url="http://127.0.0.1:3003/inbox",
        pid=pid,
    )


@pytest.fixture(autouse=True)
def _no_instance_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GATEWAY_URL", "GATEWAY_TOKEN", "DATABASE_URL", "JWT_SECRET"):
        monkeypatch.delenv(name, raising=False)


def test_dev_file_is_private_and_has_the_promised_keys(tmp_path: Path) -> None:
    write_dev_file(tmp_path, dev_file(os.getpid()))
    path = tmp_path / "dev.json"
    assert path.stat().st_mode & 0o777 == 0o600
    keys = {"url", "adminToken", "userToken", "databaseUrl", "redisUrl", "smtp", "inboxUrl", "pid", "demoModels"}
    assert set(json.loads(path.read_text())) == keys
    assert list(tmp_path.iterdir()) == [path]
    assert running_dev(tmp_path) == dev_file(os.getpid())
    remove_dev_file(tmp_path)
    remove_dev_file(tmp_path)
    assert running_dev(tmp_path) is None


def test_the_file_of_a_dead_process_is_no_instance(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    write_dev_file(tmp_path, dev_file(ended.pid))
    assert running_dev(tmp_path) is None


def test_a_named_instance_wins_and_never_gets_the_token_of_dev(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dev_file(tmp_path, dev_file(os.getpid()))
    call = Invocation(data_dir=tmp_path)
    assert find_target(call).token == "admin"
    monkeypatch.setenv("GATEWAY_URL", "https://gateway.example/")
    assert (find_target(call).url, find_target(call).token) == ("https://gateway.example", None)
    monkeypatch.setenv("GATEWAY_TOKEN", "mine")
    assert find_target(Invocation(url="http://other", data_dir=tmp_path)).token == "mine"


def test_without_an_instance_the_message_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(CliError, match="gateway dev") as caught:
        find_target(Invocation(data_dir=tmp_path))
    assert caught.value.exit_code is Exit.UNREACHABLE


def test_local_commands_use_the_database_and_secret_of_dev_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dev_file(tmp_path, dev_file(os.getpid()))
    call = Invocation(data_dir=tmp_path)
    assert environment(call)["DATABASE_URL"] == dev_file(1).database_url
    assert environment(call)["JWT_SECRET_FILE"] == str(tmp_path / "jwt-secret")
    monkeypatch.setenv("DATABASE_URL", "postgresql://elsewhere/db")
    assert "JWT_SECRET_FILE" not in environment(call)


def test_a_data_dir_has_one_holder(tmp_path: Path) -> None:
    with DataDir(tmp_path).held() as first, DataDir(tmp_path).held() as second:
        assert (first, second) == (True, False)
    with DataDir(tmp_path).held() as again:
        assert again


def test_the_secret_is_made_once_and_private(tmp_path: Path) -> None:
    secret = DataDir(tmp_path).jwt_secret()
    assert len(secret) == 64
    assert DataDir(tmp_path).jwt_secret() == secret
    assert (tmp_path / "jwt-secret").stat().st_mode & 0o777 == 0o600


def test_reset_deletes_what_dev_made_and_nothing_else(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "PG_VERSION").write_text("18")
    data = DataDir(tmp_path / "d")
    data.postgres.mkdir(parents=True)
    (data.postgres / "data").symlink_to(elsewhere)
    (data.path / "mine.txt").write_text("kept")
    data.jwt_secret()
    data.reset()
    assert [path.name for path in data.path.iterdir()] == ["mine.txt"]
    assert not elsewhere.exists()


def test_a_taken_port_names_its_owner() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert not ports.is_free("127.0.0.1", port)
        assert ports.next_free("127.0.0.1", port) != port
        assert f"Port {port} is used by process {os.getpid()} (" in ports.taken_message(port)
        assert f"--port {port + 1}" in ports.taken_message(port)
        with pytest.raises(CliError, match="gateway status"):
            choose_port("127.0.0.1", port)
    assert choose_port("127.0.0.1", port) == port


def test_the_next_port_is_taken_and_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        monkeypatch.setattr("gateway.cli.dev.PORT", port)
        chosen = choose_port("127.0.0.1", None)
    assert chosen > port
    assert capsys.readouterr().err == f"port {port} is taken: using {chosen}\n"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "myhost"])
def test_dev_is_not_opened_to_other_machines_without_a_token(host: str) -> None:
    with pytest.raises(CliError, match="--token") as caught:
        refuse_open_host(host, None)
    assert caught.value.exit_code is Exit.USAGE
    with pytest.raises(CliError, match="16 or more"):
        refuse_open_host(host, "dev")
    refuse_open_host(host, "0123456789abcdef")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_dev_on_loopback_needs_no_token(host: str) -> None:
    refuse_open_host(host, None)


@pytest.mark.parametrize(
    ("modes", "word"), [(["queue", "queue"], "queue"), (["queue", "direct"], "mixed"), ([], "unknown")]
)
def test_mode_of(modes: list[str], word: str) -> None:
    assert mode_of(modes) == word
