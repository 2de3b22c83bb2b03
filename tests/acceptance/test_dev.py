"""``gateway dev`` as a new user meets it: real processes, the printed request, the inbox, the end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest
import redis

from tests.support.dev_process import DevProcess, alive, clean_environment, gateway
from tests.support.eventually import eventually

_numbers = count(1)


@pytest.fixture
def directory(server_directory: Path) -> Path:
    path = server_directory / f"dev-{os.getpid()}-{next(_numbers)}"
    path.mkdir()
    return path


@pytest.fixture
def start(directory: Path) -> Iterator[Callable[..., DevProcess]]:
    """Start ``gateway dev --port 0`` with further arguments, in ``directory``."""
    started: list[DevProcess] = []

    def run(*arguments: str, **environment: str) -> DevProcess:
        started.append(DevProcess(directory, "--port", "0", *arguments, program=True, **environment))
        return started[-1]

    yield run
    for dev in started:
        dev.stop()


def printed_request(command: str) -> httpx.Request:
    """The request that the printed curl makes."""
    words = shlex.split(command)
    assert words[:3] == ["curl", "-X", "POST"]
    headers = dict(words[i + 1].split(": ", 1) for i, word in enumerate(words) if word == "-H")
    return httpx.Request("POST", words[3], headers=headers, content=words[words.index("-d") + 1])


def facts_printed(output: str) -> dict[str, str]:
    return {name: "".join(shlex.split(value)) for name, value in (line.split("=", 1) for line in output.splitlines())}


async def run_printed_request(command: str) -> dict[str, Any]:
    async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
        answer = await http.send(printed_request(command))
    assert answer.status_code == 202, answer.text
    accepted: dict[str, Any] = answer.json()["data"]
    return accepted


async def caught_mails(inbox_url: str) -> list[dict[str, Any]]:
    async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
        found: list[dict[str, Any]] = (await http.get(inbox_url)).json()
    return found


async def sign_in_with_one_click(address: str) -> None:
    async with httpx.AsyncClient(trust_env=False, follow_redirects=True, timeout=30) as browser:
        door = await browser.get(address)
        assert "Sign in as developer" in door.text
        origin = {"Origin": address.removesuffix("/admin/queues")}
        inside = await browser.post(str(door.url).partition("?")[0], data={"token": "dev"}, headers=origin)
        assert (inside.status_code, str(inside.url)) == (200, address)


async def test_the_first_minute(start: Callable[..., DevProcess]) -> None:
    dev = start()
    facts = await dev.ready()
    path = dev.data_dir / "dev.json"
    assert path.stat().st_mode & 0o777 == 0o600
    wanted = {"url", "adminToken", "userToken", "databaseUrl", "redisUrl", "smtp", "inboxUrl", "pid", "demoModels"}
    assert set(facts) == wanted
    assert (facts["pid"], facts["redisUrl"]) == (dev.process.pid, None)

    printed = await eventually(lambda: facts_printed(dev.output) if "try=" in dev.output else None)
    assert printed["mode"] == "direct"
    accepted = await run_printed_request(printed["try"])
    assert accepted["mode"] == "direct"

    [mail] = await eventually(lambda: caught_mails(facts["inboxUrl"]))
    assert (mail["to"], mail["subject"]) == (["you@example.com"], "Hello")
    assert set(mail) == {"id", "from", "to", "subject", "receivedAt"}
    await eventually(lambda: f"{facts['inboxUrl']}/{mail['id']}" in dev.output, message="the line of the first mail")

    await sign_in_with_one_click(printed["dashboard"])

    async with httpx.AsyncClient(base_url=facts["url"], trust_env=False, timeout=30) as http:
        one = (await http.get(f"/dev/inbox/{mail['id']}")).json()
        assert one["text"].strip() == "It works"
        admin = {"Authorization": f"Bearer {facts['adminToken']}"}
        user = {"Authorization": f"Bearer {facts['userToken']}"}

        async def completed() -> bool:
            answer = (await http.get("/api/v1/admin/email/queue", headers=admin)).json()
            assert answer["success"] is True
            return bool(answer["data"]["stats"]["completed"] == 1)

        await eventually(completed)
        listed = (await http.get("/admin/queues/api/queues", headers=admin)).json()["queues"]
        assert listed[0] == {
            "name": "email-queue",
            "counts": {"active": 0, "waiting": 0, "completed": 1, "failed": 0},
        }
        assert (await http.get("/api/v1/admin/queues", headers=user)).status_code == 403
        assert (await http.get("/api/v1/admin/queues")).status_code == 401
        assert (await http.get("/metrics")).status_code == 200
        await http.delete("/dev/inbox")
        assert (await http.get("/dev/inbox")).json() == []

    servers = dev.children()
    assert servers
    assert dev.stop(signal.SIGTERM) == 0
    assert not path.exists()
    assert not [pid for pid in servers if alive(pid)]


async def test_data_and_secret_are_kept_and_reset_starts_over(
    start: Callable[..., DevProcess], directory: Path
) -> None:
    dev = start()
    await dev.ready()
    sent = gateway("email", "send", "--to", "a@example.com", "--subject", "s", "--text", "t", "--json", cwd=directory)
    mail_id = json.loads(sent.stdout)["id"]
    token = gateway("token", "create", "--role", "viewer", "--ttl", "1h", cwd=directory).stdout.strip()
    assert dev.stop() == 0

    again = start()
    await again.ready()
    assert "preparing PostgreSQL" not in again.log
    kept = gateway("email", "show", mail_id, "--json", cwd=directory, GATEWAY_TOKEN=token)
    assert json.loads(kept.stdout)["subject"] == "s"
    assert again.stop() == 0

    anew = start("--reset")
    await anew.ready()
    assert "preparing PostgreSQL" in anew.log
    assert gateway("email", "show", mail_id, cwd=directory).returncode == 5
    assert gateway("email", "ls", cwd=directory, GATEWAY_TOKEN=token).returncode == 4


async def test_with_redis_others_are_kept_out_and_a_second_one_is_shown_the_first(
    start: Callable[..., DevProcess], directory: Path
) -> None:
    dev = start("--redis")
    facts = await dev.ready()
    assert re.fullmatch(r"redis://:\w{48}@127\.0\.0\.1:\d+/0", facts["redisUrl"])
    printed = await eventually(lambda: facts_printed(dev.output) if "try=" in dev.output else None)
    assert printed["mode"] == "queue"
    await eventually(lambda: is_sent_in(printed["try"], "queue"))
    assert await eventually(lambda: caught_mails(facts["inboxUrl"]))
    servers = dev.children()
    assert len(servers) == 2

    await its_stores_are_closed_to_others(facts)
    a_second_one_says_where_it_is(facts, directory)
    await a_killed_valkey_is_started_again(dev, printed["try"])

    servers = dev.children()
    assert len(servers) == 2
    assert dev.stop(signal.SIGINT) == 0
    assert not [pid for pid in servers if alive(pid)]


async def its_stores_are_closed_to_others(facts: dict[str, Any]) -> None:
    database, valkey = urlsplit(facts["databaseUrl"]), urlsplit(facts["redisUrl"])
    for password in (None, "wrong"):
        with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
            await asyncpg.connect(host="127.0.0.1", port=database.port, user="postgres", password=password)
        with redis.Redis(port=valkey.port or 0, password=password) as client, pytest.raises(redis.AuthenticationError):
            client.ping()
    with redis.Redis.from_url(facts["redisUrl"]) as client:
        assert client.ping()


def a_second_one_says_where_it_is(facts: dict[str, Any], directory: Path) -> None:
    second = gateway("dev", cwd=directory)
    assert second.returncode == 0
    assert f"pid {facts['pid']}" in second.stdout
    assert facts["inboxUrl"] in second.stdout
    reset = gateway("dev", "--reset", cwd=directory)
    assert (reset.returncode, "stop it first" in reset.stderr) == (1, True)
    as_json = json.loads(gateway("dev", "--json", cwd=directory).stdout)
    assert as_json == {
        "alreadyRunning": True,
        "pid": facts["pid"],
        "url": facts["url"],
        "inboxUrl": facts["inboxUrl"],
    }


async def is_sent_in(command: str, mode: str) -> bool:
    return str((await run_printed_request(command))["mode"]) == mode


async def a_killed_valkey_is_started_again(dev: DevProcess, command: str) -> None:
    valkey = valkey_of(dev)
    os.kill(valkey, signal.SIGKILL)
    await eventually(lambda: "Valkey has ended" in dev.log, 20, "word of the end")
    assert await eventually(lambda: is_sent_in(command, "direct"), 10, "direct mode without Valkey")
    assert await eventually(lambda: is_sent_in(command, "queue"), 40, "queue mode again")
    assert "Valkey is running again" in dev.log
    with pytest.raises(ProcessLookupError):  # not even as one that nobody waited for
        os.kill(valkey, 0)


def valkey_of(dev: DevProcess) -> int:
    [pid] = [pid for pid in dev.children() if Path(f"/proc/{pid}/comm").read_text().startswith("valkey")]
    return pid


async def test_a_killed_postgresql_is_started_again(start: Callable[..., DevProcess]) -> None:
    dev = start()
    facts = await dev.ready()
    [postgres] = dev.children()
    os.kill(postgres, signal.SIGKILL)
    await eventually(lambda: "PostgreSQL is running again" in dev.log, 40, "PostgreSQL")
    connection = await asyncpg.connect(facts["databaseUrl"])
    assert await connection.fetchval("SELECT count(*) FROM jobs") == 0
    await connection.close()


async def test_servers_end_with_a_killed_parent_and_the_next_run_starts(
    start: Callable[..., DevProcess], directory: Path
) -> None:
    dev = start()
    first = await dev.ready()
    servers = dev.children()
    dev.stop(signal.SIGKILL)
    await eventually(lambda: not [pid for pid in servers if alive(pid)], 20, "servers of a killed parent")
    assert gateway("queues", "ls", cwd=directory).returncode == 3  # dev.json is still there, and is not believed
    again = start()

    def new_facts() -> dict[str, Any] | None:
        facts = again.facts()
        return facts if facts and facts["pid"] != first["pid"] else None

    await eventually(new_facts, 60, "the next run")


async def test_a_database_of_ones_own_is_used_instead(
    start: Callable[..., DevProcess], directory: Path, empty_database_url: str
) -> None:
    dev = start(DATABASE_URL=empty_database_url)
    facts = await dev.ready()
    assert facts["databaseUrl"] == empty_database_url
    assert dev.children() == []
    assert (
        gateway("email", "send", "--to", "a@example.com", "--subject", "s", "--text", "t", cwd=directory).returncode
        == 0
    )


async def test_a_mail_server_of_the_environment_is_not_used(start: Callable[..., DevProcess]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as outside:
        outside.setblocking(False)
        dev = start(SMTP_HOST="127.0.0.1", SMTP_PORT=str(outside.getsockname()[1]), SMTP_USER="u", SMTP_PASSWORD="p")
        facts = await dev.ready()
        printed = await eventually(lambda: facts_printed(dev.output) if "try=" in dev.output else None)
        await run_printed_request(printed["try"])
        assert await eventually(lambda: caught_mails(facts["inboxUrl"]))
        with pytest.raises(BlockingIOError):
            outside.accept()


async def test_conversations_are_tried_here_with_the_demonstration(start: Callable[..., DevProcess]) -> None:
    facts = await start(GATEWAY_PROFILES="chat", GATEWAY_ROLE="api").ready()
    assert facts["demoModels"] is True
    async with httpx.AsyncClient(base_url=facts["url"], headers={"Authorization": "Bearer dev"}, trust_env=False) as me:
        asked = await me.post("/api/chat", json={"message": "Why is the sky blue?"})
        assert asked.status_code == 202, asked.text
        path = f"/api/messages/{asked.json()['data']['messageId']}"

        async def answered() -> dict[str, Any]:
            found: dict[str, Any] = (await me.get(path)).json()["data"]
            assert found["status"] == "completed", found
            return found

        assert (await eventually(answered, 30))["demo"] is True


def on_a_terminal(directory: Path) -> tuple[subprocess.Popen[bytes], int]:
    """``gateway dev`` on a pseudo-terminal, and the end to read what it shows."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", "dev", "--port", "0"],
        cwd=directory,
        env=clean_environment(NO_COLOR="1", LOG_LEVEL="error"),
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
    )
    os.close(follower)
    os.set_blocking(leader, False)
    return process, leader


async def test_on_a_terminal_it_speaks_to_people(directory: Path) -> None:
    process, leader = on_a_terminal(directory)
    seen = bytearray()

    def text() -> str:
        with contextlib.suppress(BlockingIOError):
            seen.extend(os.read(leader, 65_536))
        return seen.decode(errors="ignore").replace("\r\n", "\n")

    try:
        banner = await eventually(lambda: text() if "Ctrl+C to stop" in text() else None, 60, "the banner")
        assert "Gateway 0.1.0 · development" in banner
        assert "email, orchestration · direct mode" in banner
        assert "\x1b[" not in banner
        command = banner.partition("Try it")[2].partition("Ctrl+C")[0]
        await run_printed_request(command)
        line = await eventually(lambda: next((x for x in text().splitlines() if "caught by the inbox" in x), None))
        assert "y***@example.com caught by the inbox → http://localhost:" in line
    finally:
        process.send_signal(signal.SIGINT)
        await asyncio.to_thread(process.wait, 30)
        os.close(leader)
    assert process.returncode == 0


def test_it_is_not_opened_to_other_machines_without_a_token(directory: Path) -> None:
    refused = gateway("dev", "--host", "0.0.0.0", cwd=directory)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "--token" in refused.stderr
    assert not (directory / ".gateway").exists()


def test_a_taken_port_is_named(directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = gateway("dev", "--port", str(port), cwd=directory)
    assert refused.returncode == 1
    assert f"Port {port} is used by process {os.getpid()}" in refused.stderr
