"""Several processes on one port, as an operator of one server has them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import re
import select
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import httpx
import pytest

from gateway.autoscale.fleet import ScaleFailed, SupervisedFleet
from gateway.dev_servers import free_port
from gateway.supervise.client import Declined
from gateway.supervise.messages import Process, Request
from tests.support.eventually import eventually
from tests.support.gateway import environment_of, running
from tests.support.gateway_process import bearer, token
from tests.support.modes import LONG
from tests.support.smtp_server import ScriptedSmtp
from tests.support.supervised import Supervised, load, total, values

SMTP_PORT = free_port()
LEASE_MS = "10000"  # longer than a busy machine stands still: that a job is done once is counted
CONFIG = """
instances = 2
min_uptime = "1s"
restart_pause = "200ms"
watchdog_timeout = "8s"
watchdog_grace = "500ms"
"""


@dataclass(frozen=True)
class Ledger:
    """The database of all tests here, and since when its jobs are this test's."""

    url: str
    since: datetime


@pytest.fixture
def ledger(shared_database_url: str) -> Ledger:
    return Ledger(shared_database_url, datetime.now(UTC))


@pytest.fixture(scope="module")
def shared(shared_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervised]:
    """One supervisor of two processes."""
    environment = environment_of(shared_database_url, smtp=("127.0.0.1", SMTP_PORT), LOCK_DURATION_MS=LEASE_MS)
    made = Supervised(tmp_path_factory.mktemp("supervised"), environment, CONFIG)
    made.start()
    yield made
    made.close()


@pytest.fixture
async def supervised(shared: Supervised) -> Supervised:
    async def scaled() -> bool:
        if shared.socket.exists() and (await shared.status()).instances != 2:
            await shared.ask(Request(do="scale", to="2"))
        return True

    await eventually(scaled, 40)
    await shared.ready(2)
    return shared


@pytest.fixture
async def smtp() -> AsyncIterator[ScriptedSmtp]:
    server = ScriptedSmtp()
    server.port = SMTP_PORT
    async with running(server):
        yield server


async def all_sent_once(ledger: Ledger, smtp: ScriptedSmtp, recipients: list[str]) -> None:
    """Each accepted mail arrived once, in its first attempt; no job is left."""

    async def arrived() -> bool:
        return {one for message in smtp.messages for one in message.recipients} >= set(recipients)

    await eventually(arrived, 40, "mails are missing")
    sent = [one for message in smtp.messages for one in message.recipients]
    assert len(sent) == len(set(sent)), "a mail came twice"
    connection = await asyncpg.connect(ledger.url)
    try:
        await eventually(lambda: _all_completed(connection), 20, "jobs are left")
        again = "SELECT count(*) FROM jobs WHERE (stalls <> 0 OR attempts <> 1) AND created_at > $1"
        assert await connection.fetchval(again, ledger.since) == 0
    finally:
        await connection.close()


async def _all_completed(connection: asyncpg.Connection) -> bool:  # type: ignore[type-arg]
    return await connection.fetchval("SELECT count(*) FROM jobs WHERE state <> 'completed'") == 0


async def test_a_reload_under_load_refuses_nothing_and_loses_nothing(
    supervised: Supervised, ledger: Ledger, smtp: ScriptedSmtp
) -> None:
    smtp.script.delay_s = 0.05
    before = {one.pid for one in (await supervised.status()).processes}
    async with load(supervised.url) as made:
        await eventually(lambda: len(made.recipients) > 20, 30)
        reload = asyncio.create_task(supervised.ask(Request(do="reload")))
        await eventually(lambda: _is_under_way(supervised, "reload"))
        with pytest.raises(Declined, match="reload is under way") as refused:
            await supervised.ask(Request(do="scale", to="3"))
        assert refused.value.refused
        assert await reload == 2
        seen = len(made.recipients)
        await eventually(lambda: len(made.recipients) > seen + 20, 30)
    assert made.refused == {}
    assert made.asked > 5
    assert {one.pid for one in await supervised.ready(2)}.isdisjoint(before)
    await all_sent_once(ledger, smtp, made.recipients)


async def _is_under_way(supervised: Supervised, operation: str) -> bool:
    return (await supervised.status()).busy_with == operation


async def test_four_processes_are_counted_once_and_two_of_them_leave_with_their_jobs_done(
    supervised: Supervised, ledger: Ledger, smtp: ScriptedSmtp
) -> None:
    assert await supervised.ask(Request(do="scale", to="+2")) == 4
    processes = await supervised.ready(4)
    async with load(supervised.url) as made:
        await eventually(lambda: len(made.recipients) >= 60, 30)
    await all_sent_once(ledger, smtp, made.recipients)
    # A job is counted a moment after its end.
    await eventually(lambda: _counted_once(supervised, processes, len(made.recipients)), 30)
    await _two_of_four_leave(supervised, ledger, smtp, processes)


async def _counted_once(supervised: Supervised, processes: list[Process], mails: int) -> bool:
    async with httpx.AsyncClient(trust_env=False, headers={"Connection": "close"}, timeout=20) as http:
        own = [values((await http.get(f"{one.url}/metrics")).text) for one in processes if one.url]
        paths = ["/metrics", "/metrics/", "/metrics%2f"] * 3  # all the same route
        scrapes = [values((await http.get(supervised.url + path)).text) for path in paths]
    truth = sum(total(one, "gateway_job_attempts_total") for one in own)
    assert truth >= mails
    numbers = {str(one.number) for one in processes}
    for scrape in scrapes:
        assert total(scrape, "gateway_job_attempts_total") == truth, "whichever process answered"
        with_slots = {dict(labels)["process"] for name, labels in scrape if name == "gateway_worker_slots"}
        assert with_slots == numbers
        assert total(scrape, "gateway_workers") <= 4, "a number of all is not summed"
        depths = [labels for name, labels in scrape if name == "gateway_queue_depth"]
        assert depths
        assert not any("process" in dict(labels) for labels in depths)
        assert total(scrape, "supervisor_processes", state="ready") == 4
    return True


async def _two_of_four_leave(supervised: Supervised, ledger: Ledger, smtp: ScriptedSmtp, before: list[Process]) -> None:
    smtp.script.delay_s = 5  # those that leave still have jobs when they are looked at
    async with load(supervised.url) as made:
        await eventually(lambda: len(made.recipients) >= 30, 30)
        leave = (before[0].number, before[1].number)
        assert await supervised.ask(Request(do="scale", to="2", leave=leave)) == 2
        draining = {one.number for one in (await supervised.status()).processes if one.state == "draining"}
        assert draining == set(leave), "those that were named, with their jobs"
        smtp.script.delay_s = 0
    assert made.refused == {}
    assert {one.pid for one in await supervised.ready(2)} == {one.pid for one in before[2:]}
    await all_sent_once(ledger, smtp, made.recipients)


async def test_a_killed_process_is_replaced_and_its_jobs_are_done(
    supervised: Supervised, ledger: Ledger, smtp: ScriptedSmtp
) -> None:
    smtp.script.delay_s = 1.0
    victim = (await supervised.status()).processes[0]
    async with httpx.AsyncClient(headers=bearer(token("user")), timeout=15, trust_env=False) as http:
        for number in range(10):
            body = {"from": "a@shop.example", "to": f"killed-{number}@example.com", "subject": "Hi", "text": "Hello"}
            assert (await http.post(f"{supervised.url}/api/v1/emails", json=body)).status_code == 202
    assert victim.pid is not None

    async def is_busy() -> bool:
        return any(one.pid == victim.pid and one.busy for one in (await supervised.status()).processes)

    await eventually(is_busy, 20)
    os.kill(victim.pid, signal.SIGKILL)
    await eventually(lambda: _is_gone(supervised, victim), message="the victim is still among them")
    await supervised.ready(2)
    smtp.script.delay_s = 0
    wanted = {f"killed-{number}@example.com" for number in range(10)}
    arrived = lambda: {one for message in smtp.messages for one in message.recipients} >= wanted  # noqa: E731
    await eventually(arrived, 60, "the jobs of the killed process")
    connection = await asyncpg.connect(ledger.url)
    try:
        await eventually(lambda: _all_completed(connection), 30, "jobs are left")
    finally:
        await connection.close()
    assert "ended with -9" in supervised.log or '"exit_code":-9' in supervised.log


async def test_a_stopped_process_is_noticed_and_replaced_and_its_jobs_are_done(
    supervised: Supervised, ledger: Ledger, smtp: ScriptedSmtp
) -> None:
    smtp.script.delay_s = 1.0
    victim, other = (await supervised.status()).processes
    assert victim.pid is not None

    async def is_busy() -> bool:
        return any(one.pid == victim.pid and one.busy for one in (await supervised.status()).processes)

    async with load(supervised.url, clients=1):
        await eventually(is_busy, 20)
        os.kill(victim.pid, signal.SIGSTOP)
        await eventually(lambda: f'"pid":{victim.pid},"silent_s"' in supervised.log, 60, "it is not noticed")
        await eventually(lambda: _is_gone(supervised, victim), 30, "it is not ended")
    assert "it was stopped by a signal" in supervised.log
    smtp.script.delay_s = 0
    assert other.pid in {one.pid for one in await supervised.ready(2)}, "only the stopped one was ended"
    connection = await asyncpg.connect(ledger.url)
    try:
        await eventually(lambda: _all_completed(connection), 60, "jobs are left")
    finally:
        await connection.close()


async def _is_gone(supervised: Supervised, victim: Process) -> bool:
    return victim.pid not in {one.pid for one in (await supervised.status()).processes}


@pytest.mark.parametrize(("wanted", "said"), [
    ("0", "not from 1 to"), ("-2", "not from 1 to"), ("many", "is no number"), ("", "is no number"),
])  # fmt: skip
async def test_a_wrong_number_is_explained(supervised: Supervised, wanted: str, said: str) -> None:
    with pytest.raises(Declined, match=said):
        await supervised.ask(Request(do="scale", to=wanted))


@pytest.mark.parametrize(("line", "said"), [
    ('[env]\nSMTP_PORT = "many"', "SMTP_PORT"),
    ('socket = "run/other.sock"', "restart the supervisor"),
], ids=["setting", "socket"])  # fmt: skip
async def test_a_configuration_that_is_wrong_reloads_nothing(supervised: Supervised, line: str, said: str) -> None:
    before = {one.pid for one in await supervised.ready(2)}
    text = supervised.file.read_text()
    supervised.file.write_text(f"{text}{line}\n")
    try:
        with pytest.raises(Declined, match=said):
            await supervised.ask(Request(do="reload"))
    finally:
        supervised.file.write_text(text)
    assert {one.pid for one in await supervised.ready(2)} == before


async def test_the_commands_show_what_runs(supervised: Supervised) -> None:
    shown = supervised.run("status")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.count("\tready\t") == 2
    assert f"address\thttp://127.0.0.1:{supervised.port}" in shown.stdout
    scaled = supervised.run("scale", "0")
    assert (scaled.returncode, "gateway supervise stop" in scaled.stderr) == (1, True)
    logs = supervised.run("logs", "--lines", "500")
    assert re.search(r"00:00 \d+ \| ", logs.stdout)
    assert "supervisor | " in logs.stdout
    assert supervised.run("monit").returncode == 2, "no terminal"
    again = supervised.run("--no-echo")
    assert (again.returncode, "runs already" in again.stderr) == (4, True)
    assert supervised.socket.stat().st_mode & 0o777 == 0o600


async def test_monit_shows_the_processes_in_a_terminal(supervised: Supervised) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "gateway", "supervise", "monit", "--config", str(supervised.file)]
    environment = {**supervised.environment, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
    process = await asyncio.create_subprocess_exec(
        *command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    seen = b""

    def both_ready() -> bool:
        nonlocal seen
        if select.select([ours], [], [], 0)[0]:
            seen += os.read(ours, 65_536)
        return seen.count(b"ready") >= 2 and b"supervisor" in seen

    def over() -> bool:
        with contextlib.suppress(OSError):  # nobody writes there any more
            both_ready()  # who does not read holds up who writes
        return process.returncode is not None

    try:
        await eventually(both_ready, 40)
        process.send_signal(signal.SIGINT)
        await eventually(over, 30)
        assert process.returncode == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(ours)


async def test_the_autoscaler_scales_a_supervisor_and_names_the_idle(supervised: Supervised) -> None:
    fleet = SupervisedFleet(supervised.socket)
    await fleet.look()
    assert (fleet.size, len(fleet.urls)) == (2, 2)
    busy = {fleet.urls[0]: 3.0, fleet.urls[1]: 0.0}
    await fleet.scale(1, busy)
    (kept,) = [one for one in (await supervised.status()).processes if one.state == "ready"]
    assert kept.url == fleet.urls[0], "the idle one left"
    await fleet.look()
    assert (fleet.size, fleet.urls) == (1, [kept.url])
    await fleet.scale(2, {})
    await supervised.ready(2)
    with pytest.raises(ScaleFailed, match="not from 1 to"):
        await fleet.scale(0, {})


@LONG
async def test_the_autoscaler_keeps_its_minimum_of_a_supervisor(supervised: Supervised) -> None:
    command = [sys.executable, "-m", "gateway", "autoscale", "--supervised", str(supervised.file)]
    bounds = ["--min", "1", "--max", "3", "--down-after", "0", "--interval", "0.2"]
    process = await asyncio.create_subprocess_exec(*command, *bounds, env=supervised.environment)
    try:
        await eventually(lambda: _wants(supervised, 1), 30, "idle processes stay")
    finally:
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 10) == 0
    assert await _wants(supervised, 1), "the supervisor's processes outlive the autoscaler"


async def _wants(supervised: Supervised, number: int) -> bool:
    return (await supervised.status()).instances == number


async def test_when_the_supervisor_is_killed_its_processes_leave_the_port_and_drain(
    tmp_path: Path, ledger: Ledger, smtp: ScriptedSmtp
) -> None:
    smtp.script.delay_s = 1.0
    environment = environment_of(ledger.url, smtp=(smtp.host, smtp.port), LOCK_DURATION_MS=LEASE_MS)
    made = Supervised(tmp_path, environment, "instances = 1")
    made.start()
    try:
        (child,) = await made.ready(1)
        assert child.pid is not None
        await _on_its_way(made, smtp, "orphan@example.com")
        made.kill()
        await eventually(made.port_is_free, 20, "a process holds the port")
        made.start()  # the port and the control socket can be had again
        after = await made.ready(1)
        assert after[0].pid != child.pid
        await eventually(lambda: not Path(f"/proc/{child.pid}").exists(), 20, "it does not end")
        await _on_its_way(made, smtp, "last@example.com")
        os.kill(made.pid, signal.SIGTERM)
        assert await made.exit_code() == 0, "our mail server has to run meanwhile"
    finally:
        made.close()
    assert await made.port_is_free()
    await all_sent_once(ledger, smtp, ["orphan@example.com", "last@example.com"])


async def _on_its_way(supervised: Supervised, smtp: ScriptedSmtp, recipient: str) -> None:
    async with httpx.AsyncClient(headers=bearer(token("user")), timeout=15, trust_env=False) as http:
        body = {"from": "a@shop.example", "to": recipient, "subject": "Hi", "text": "Hello"}
        assert (await http.post(f"{supervised.url}/api/v1/emails", json=body)).status_code == 202
    told = f"RCPT TO:<{recipient}>"
    await eventually(lambda: any(command.startswith(told) for _, command in smtp.commands), message="it is not sent")


async def test_a_process_that_crashes_again_and_again_is_given_up(tmp_path: Path, ledger: Ledger) -> None:
    config = """
        instances = 2
        max_restarts = 4
        min_uptime = "60s"
        exp_backoff_restart_delay = "20ms"
        [env]
        PYTHONHOME = "/nowhere"
    """
    made = Supervised(tmp_path, environment_of(ledger.url, smtp=("127.0.0.1", SMTP_PORT)), config)
    made.start()
    try:
        assert await made.exit_code() == 1
    finally:
        made.close()
    logs = (tmp_path / "logs" / "out.log").read_text()
    assert logs.count('"event":"process_started"') == 8
    assert "4 crashes within 600 s; the last: ended with 1: " in made.log
    assert "No module named 'encodings'" in made.log, "the cause is named"
    assert [f'"in_s":{delay}' in made.log for delay in (0.02, 0.04, 0.08)] == [True] * 3


@LONG
async def test_restart_waits_for_each_end_and_pauses(
    supervised: Supervised, ledger: Ledger, smtp: ScriptedSmtp
) -> None:
    before = {one.pid for one in await supervised.ready(2)}
    async with load(supervised.url) as made:
        assert await supervised.ask(Request(do="restart", pause_s=1.0)) == 2
    assert made.refused == {}
    assert {one.pid for one in await supervised.ready(2)}.isdisjoint(before)
    await all_sent_once(ledger, smtp, made.recipients)


@LONG
@pytest.mark.timeout(300)
async def test_five_reloads_under_load_refuse_nothing_and_lose_nothing(
    supervised: Supervised, ledger: Ledger, smtp: ScriptedSmtp
) -> None:
    smtp.script.delay_s = 0.02
    async with load(supervised.url, clients=12) as made:
        for _ in range(5):
            await supervised.ask(Request(do="reload"))
    assert made.refused == {}
    done = f"{len(made.recipients)} mails and {made.asked} probes over 5 reloads"
    print(f"{done}, the longest request took {made.longest_s:.2f} s")  # noqa: T201
    await supervised.ready(2)
    await all_sent_once(ledger, smtp, made.recipients)


@LONG
async def test_a_mark_below_a_fresh_process_replaces_nothing_and_is_said(tmp_path: Path, ledger: Ledger) -> None:
    config = 'instances = 1\nmax_memory_restart = "20M"\nmin_uptime = "1s"'
    made = Supervised(tmp_path, environment_of(ledger.url, smtp=("127.0.0.1", SMTP_PORT)), config)
    made.start()
    try:
        (before,) = await made.ready(1)
        await eventually(lambda: "memory_mark_too_low" in made.log)
        await eventually(lambda: _is_older(made, 4.0))
        assert [one.pid for one in (await made.status()).processes] == [before.pid]
    finally:
        made.close()


async def _is_older(supervised: Supervised, seconds: float) -> bool:
    return all((one.uptime_s or 0) > seconds for one in (await supervised.status()).processes)


@LONG
@pytest.mark.timeout(300)
async def test_a_process_above_the_memory_mark_is_replaced_under_load(
    tmp_path: Path, database_url: str, smtp: ScriptedSmtp
) -> None:
    ledger = Ledger(database_url, datetime.now(UTC))
    made = Supervised(tmp_path, environment_of(ledger.url, smtp=(smtp.host, smtp.port)), "instances = 2")
    made.start()
    try:
        before = await made.ready(2)
        size = max(one.rss_bytes or 0 for one in before)
        mark = f'instances = 2\nmin_uptime = "1s"\nmax_memory_restart = "{(size >> 20) + 40}M"\n'
        made.file.write_text(mark)
        await made.ask(Request(do="reload"))
        first = {one.pid for one in await made.ready(2)}
        async with load(made.url, clients=6, text="x" * 4_000_000) as big:
            await eventually(lambda: '"why":"memory"' in made.log, 60, "no process is replaced for its memory")
        assert big.refused == {}
        await eventually(lambda: made.log.count('"memory_mark_reached"') == made.log.count('"why":"memory"'), 60)
        assert {one.pid for one in await made.ready(2)} != first
        assert "process_killed" not in made.log
        await all_sent_once(ledger, smtp, big.recipients)
    finally:
        made.close()
