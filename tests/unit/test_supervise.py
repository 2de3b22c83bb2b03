"""The supervisor's parts without processes: configuration, back-off, logs, metrics, systemd."""

from __future__ import annotations

import asyncio
import io
import os
import re
import select
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from rich.console import Console

from gateway.autoscale import signal
from gateway.cli.errors import CliError
from gateway.cli.root import root
from gateway.cli.supervise import shared_socket
from gateway.cli.supervise_monit import drawn
from gateway.dev_servers import free_port
from gateway.infra.metrics import Metrics, QueueReading, Readings, Slots
from gateway.settings.problems import SettingProblem, SettingsError
from gateway.supervise import client, control
from gateway.supervise.config import ConfigError, instances_of, read_ecosystem
from gateway.supervise.logs import BACKLOG_MAX_BYTES, Files, LineTaker, LogFiles, dated, stream_of
from gateway.supervise.merge import OF_ALL, merged
from gateway.supervise.messages import Process as Supervised
from gateway.supervise.messages import Status
from gateway.supervise.notify import Notifier
from gateway.supervise.restarts import BACKOFF_MAX_S, Restarts
from gateway.supervise.supervisor import reap_others
from gateway.supervise.tail import Follower, last_lines
from gateway.supervise.unit import Unit
from gateway.supervise.usage import usage_of
from tests.support.eventually import eventually
from tests.support.supervised import total, values
from tests.support.web import settings_for

PM2_LIKE = Path(__file__).resolve().parents[2] / "pm2-like" / "ecosystem.toml"


def test_the_example_is_what_the_documents_ask_for() -> None:
    eco = read_ecosystem(PM2_LIKE)
    assert (eco.name, eco.instances, eco.memory_mark) == ("api-gateway", 4, 1024**3)
    assert eco.cwd == PM2_LIKE.parents[1]
    assert (eco.out_file, eco.error_file) == (eco.cwd / "logs" / "out.log", eco.cwd / "logs" / "err.log")
    assert eco.env == {"GATEWAY_ENV": "production"}


def test_what_the_example_calls_a_default_is_one(tmp_path: Path) -> None:
    empty = tmp_path / "ecosystem.toml"
    empty.write_text("")
    shown, default = read_ecosystem(PM2_LIKE), read_ecosystem(empty)
    moved = {"path": default.path, "cwd": default.cwd, "socket": default.socket}
    files = {"out_file": default.out_file, "error_file": default.error_file}
    said_to_differ = {"instances": default.instances, "memory_mark": None, "env": {}}
    assert msgspec.structs.replace(shown, **moved, **files, **said_to_differ) == default


@pytest.mark.parametrize(("text", "said"), [
    ("instances = 0", "instances must be a number from 1 to 256"),
    ('instances = "all"', 'instances must be a number from 1 to 256, or "max"'),
    ('max_memory_restart = "lots"', 'max_memory_restart = "lots" is no size; write "1G"'),
    ('listen_timeout = "60"', 'listen_timeout = "60" is no duration; write "60s"'),
    ("instance = 4", "unknown field `instance`"),
    ("[logs]\nretain = -1", "logs.retain"),
    ('[logs]\nmax_size = "0M"', "logs.max_size"),
    ('cwd = "nowhere"', "is no directory"),
    ('name = "a/b"', "name"),
    (f'socket = "{"x" * 100}"', "name a shorter path"),
    ("instances = ", "is no TOML"),
])  # fmt: skip
def test_a_wrong_file_is_explained(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "ecosystem.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as wrong:
        read_ecosystem(file)
    assert said in str(wrong.value)
    assert str(file) in str(wrong.value)


def test_what_stands_where_the_control_socket_goes_is_named(tmp_path: Path) -> None:
    path = tmp_path / "run" / "supervise.sock"
    with control.lock(path), pytest.raises(ConfigError, match="runs already"):
        control.lock(path)
    path.write_text("somebody's")
    with pytest.raises(ConfigError, match="is no socket: remove it"):
        control.lock(path)
    path.unlink()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    control.lock(path).close()  # of one that was killed: asyncio replaces it


@pytest.mark.parametrize(("answer", "said"), [(b"", "does not answer within"), (b'{"done":{}}\n', "another version")])
async def test_a_supervisor_that_is_frozen_or_of_another_version_is_said(
    answer: bytes, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "STATUS_TIMEOUT_S", 0.3)
    path, over = tmp_path / "supervise.sock", asyncio.Event()

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await over.wait()
        writer.close()

    async with await asyncio.start_unix_server(serve, path):
        with pytest.raises(client.Silent, match=said):
            await client.status(path)
        over.set()


def test_max_is_one_for_each_core_that_may_be_used() -> None:
    assert instances_of("max") == len(os.sched_getaffinity(0))


def test_the_delay_doubles_up_to_a_bound_and_starts_anew_after_a_good_life() -> None:
    restarts = Restarts(first_s=0.1, min_uptime_s=30, limit=100, window_s=600)
    delays = [restarts.crashed(float(now), 1.0) for now in range(12)]
    assert delays[:4] == [0.1, 0.2, 0.4, 0.8]
    assert delays[-1] == BACKOFF_MAX_S
    assert restarts.crashed(100.0, 30.0) == 0.1


def test_too_many_crashes_within_the_window_end_the_trying() -> None:
    restarts = Restarts(first_s=0.1, min_uptime_s=30, limit=3, window_s=600)
    assert restarts.crashed(0.0, 1.0) is not None
    assert restarts.crashed(1.0, 1.0) is not None
    assert restarts.crashed(602.0, 1.0) is not None, "the first two are forgotten"
    assert restarts.crashed(603.0, 1.0) is not None
    assert restarts.crashed(604.0, 1.0) is None


def test_each_line_has_its_date_with_the_zone() -> None:
    now = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
    assert dated(now, "2", "Hello") == "2026-11-22 03:00:00 +00:00 2 | Hello"
    assert dated(now.astimezone(timezone(timedelta(hours=-3.5))), "1", "x").startswith("2026-11-21 23:30:00 -03:30 1")


@pytest.mark.parametrize(("line", "stream"), [
    ('{"event":"replica_ready","level":"info"}', "out"),
    ('{"event":"redis_down","level":"warning"}', "err"),
    ("Traceback (most recent call last):", "err"),
    ("{no JSON", "err"),
])  # fmt: skip
def test_the_log_goes_where_its_level_says(line: str, stream: str) -> None:
    assert stream_of(line) == stream


@pytest.fixture
def files(tmp_path: Path) -> Iterator[LogFiles]:
    made = LogFiles(Files(out=tmp_path / "logs" / "out.log", err=None, max_bytes=2000, retain=2))
    made.start()
    yield made
    made.close()


def test_files_rotate_by_size_and_some_are_kept(files: LogFiles, tmp_path: Path) -> None:
    for number in range(200):
        files.put("out", "1", f"line {number}")
    files.put("err", "1", "there is no file for it")
    files.close()
    kept = sorted(path.name for path in (tmp_path / "logs").iterdir())
    assert kept == ["out.log", "out.log.1", "out.log.2"]
    assert all(path.stat().st_size <= 2000 for path in (tmp_path / "logs").iterdir())
    assert (tmp_path / "logs" / "out.log").read_text().splitlines()[-1].endswith("1 | line 199")
    assert (files.lost, files.problem) == (0, None)


@pytest.mark.parametrize("retain", [0, 100])
def test_one_file_for_both_streams_is_rotated_once_and_none_may_be_kept(tmp_path: Path, retain: int) -> None:
    path = tmp_path / "all.log"
    files = LogFiles(Files(out=path, err=path, max_bytes=2000, retain=retain))
    files.start()
    for number in range(300):
        files.put("out" if number % 2 else "err", "1", f"line {number}")
    files.close()
    rotated = sorted(tmp_path.glob("all.log.*"), key=lambda one: -int(one.suffix[1:]))
    assert all(1900 < one.stat().st_size <= 2000 for one in rotated), "none before it was full"
    assert path.stat().st_size <= 2000
    lines = [line.rpartition(" ")[2] for one in (*rotated, path) for line in one.read_text().splitlines()]
    assert lines == [str(number) for number in range(300)][-len(lines) :]
    assert (len(lines) == 300, bool(rotated)) == (bool(retain), bool(retain))


async def test_a_full_disk_is_said_and_stops_nobody() -> None:
    files = LogFiles(Files(out=Path("/dev/full"), err=None, max_bytes=0, retain=0))
    files.start()
    files.put("out", "1", "Hello")
    files.put("out", "1", "Hello again")
    await eventually(lambda: files.lost == 2)
    assert files.problem == "No space left on device"
    files.close()


async def test_a_disk_that_hangs_costs_lines_and_the_file_says_how_many(tmp_path: Path) -> None:
    pipe = tmp_path / "out.log"
    os.mkfifo(pipe)  # opening it hangs until somebody reads
    files = LogFiles(Files(out=pipe, err=None, max_bytes=0, retain=0))
    files.start()
    line = "x" * 60_000
    for _ in range(BACKLOG_MAX_BYTES // len(line) + 10):
        files.put("out", "1", line)
    assert files.lost >= 8
    assert files.problem == "the disk is too slow"
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.extend(pipe.read_text().splitlines()))
    reader.start()
    await eventually(lambda: files.problem is None)
    files.put("out", "1", "last")
    files.close()
    reader.join(10)
    assert any(f"{files.lost} lines are missing here: the disk is too slow" in line for line in read)
    assert read[-1].endswith("1 | last")


def test_what_a_process_writes_is_cut_into_lines(files: LogFiles, tmp_path: Path) -> None:
    taker = LineTaker(files, "7", "out")
    for data in (b"one\ntw", b"o\n\xff", b"\r\nrest"):
        taker.take(data)
    taker.end()
    files.close()
    lines = [line.partition(" | ")[2] for line in (tmp_path / "logs" / "out.log").read_text().splitlines()]
    assert lines == ["one", "two", "\ufffd", "rest"]
    assert list(taker.last) == ["one", "two", "\ufffd", "rest"]


def test_the_last_words_of_a_process_name_the_setting_that_is_wrong(files: LogFiles) -> None:
    refused = SettingsError(
        [SettingProblem("AGENTS_DIR", "is /x, which is no directory", "Create it,\nor unset this.")]
    )
    taker = LineTaker(files, "7", "err")
    taker.take(str(refused).encode())
    taker.end()
    assert any(words.startswith("AGENTS_DIR ") for words in taker.last)


def test_the_last_lines_of_all_files_are_in_order_over_rotations(tmp_path: Path) -> None:
    out, err = tmp_path / "out.log", tmp_path / "err.log"
    base = datetime(2026, 11, 22, tzinfo=UTC)
    lines = [dated(base + timedelta(seconds=n), "1", f"line {n}") for n in range(9)]
    (tmp_path / "out.log.1").write_text("\n".join(lines[:4:2]) + "\n")
    out.write_text("\n".join(lines[4::2]) + "\n")
    err.write_text("\n".join(lines[1::2]) + "\n")
    assert last_lines([out, err], 100) == lines
    assert last_lines([out, err], 3) == lines[-3:]
    assert last_lines([out, err], 0) == []
    assert last_lines([tmp_path / "none"], 5) == []


@pytest.mark.parametrize(("lines", "shown"), [(2, ["b", "c"]), (9, ["a", "b", "c"]), (0, [])])
def test_the_last_lines_of_one_process_are_found_behind_those_of_others(
    tmp_path: Path, lines: int, shown: list[str]
) -> None:
    file = tmp_path / "ecosystem.toml"
    file.write_text("")
    (tmp_path / "logs").mkdir()
    written = [dated(datetime.now(UTC), "2", text) for text in "abc"] + [dated(datetime.now(UTC), "1", "x")] * 20
    (tmp_path / "logs" / "out.log").write_text("\n".join(written) + "\n")
    asked = ["supervise", "logs", "--config", str(file), "--process", "2", "--lines", str(lines)]
    done = CliRunner().invoke(root, asked)
    assert [line.rpartition(" ")[2] for line in done.stdout.splitlines()] == shown, done.output


def test_following_goes_on_over_a_rotation(tmp_path: Path) -> None:
    path = tmp_path / "out.log"
    path.write_text("old\n")
    with closing(Follower(path)) as follower:
        _follow_over_a_rotation(follower, path)


def _follow_over_a_rotation(follower: Follower, path: Path) -> None:
    assert list(follower.new_lines()) == []
    with path.open("a") as file:
        file.write("one\ntwo\nhalf")
    assert list(follower.new_lines()) == ["one", "two"]
    path.rename(path.with_name("out.log.1"))
    path.write_text("three\n")
    assert list(follower.new_lines()) == ["half", "three"]


def test_following_misses_nothing_that_was_written_just_before_a_rotation(tmp_path: Path) -> None:
    path = tmp_path / "out.log"
    path.write_text("")
    with closing(Follower(path)) as follower:
        with path.open("a") as file:
            file.write("one\n")
            file.flush()
            seen = follower.new_lines()
            assert next(seen) == "one"
            file.write("two\n")
        path.rename(path.with_name("out.log.1"))
        path.write_text("three\n")
        assert [*seen, *follower.new_lines()] == ["two", "three"]


def _exposition(waiting: int, busy: int) -> str:
    metrics = Metrics()
    metrics.watch_slots(lambda: {"email-queue": Slots(busy=busy, free=5 - busy)})
    queue = QueueReading(states={"waiting": waiting}, oldest_waiting_s=1, rate_per_s=10.0, demand_slots=3.0)
    metrics.read(Readings(queues={"email-queue": queue}, replicas={"all": 2}))
    metrics.email("smtp", "sent")
    return metrics.text().decode()


def test_own_numbers_are_labelled_and_numbers_of_all_stand_once() -> None:
    text = merged({"1": _exposition(9, 1), "2": _exposition(8, 2)}).decode()
    found = values(text)
    assert total(found, "gateway_emails_total") == 2
    assert total(found, "gateway_emails_total", process="2") == 1
    assert total(found, "gateway_worker_slots", state="busy") == 3
    assert total(found, "gateway_queue_depth", state="waiting") == 9, "the highest of what they say, no sum"
    assert total(found, "gateway_workers") == 2
    assert total(found, "queue_waiting_jobs") == 8.5, "shares of the same queue add up to it"
    assert signal.read(text).waiting == {"email-queue": 8.5}, "the autoscaler takes both for one replica"


def test_every_number_of_all_is_one_that_the_gateway_shows() -> None:
    queue = QueueReading(
        states={"waiting": 1}, oldest_waiting_s=1, rate_per_s=1.0, rate_used=1.0, demand_slots=1.0, useful_replicas=1
    )
    metrics = Metrics()
    own = {name for name, _ in values(metrics.text().decode())}
    metrics.read(Readings(queues={"q": queue}, replicas={"all": 1}, odd={"mixed_versions": False}))
    metrics.watch_budgets(lambda: {"ok": 1})
    found = {name for name, _ in values(metrics.text().decode())} - own
    assert found == OF_ALL | {"queue_waiting_jobs"}, "of the last each shows its share"


@pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.1"])
def test_an_address_that_cannot_be_had_is_explained(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.cli.supervise._PORT_S", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = settings_for("postgresql://unused/unused", host=host, port=taken.getsockname()[1])
        said = f"Use PORT={settings.port + 1}" if host == "127.0.0.1" else "is no address of this machine"
        with pytest.raises(CliError) as error:
            shared_socket(settings)
    assert said in error.value.message


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 on this machine")
def test_all_addresses_are_those_of_ipv4_too() -> None:
    settings = settings_for("postgresql://unused/unused", host="::", port=free_port())
    with shared_socket(settings) as listener:
        socket.create_connection(("127.0.0.1", listener.getsockname()[1]), 5).close()


def _unit(**fields: object) -> Unit:
    given: dict[str, object] = {
        "name": "api-gateway",
        "instances": 4,
        "user": "root",
        "cwd": Path("/"),
        "command": f"{sys.executable} -m gateway",
        "config": PM2_LIKE,
        "grace_s": 630.0,
        "port": 3003,
        "writable": (Path("/var/tmp"),),
        **fields,
    }
    return msgspec.convert(given, Unit)


def test_the_unit_drains_for_as_long_as_the_longest_job() -> None:
    text = _unit().text()
    for line in ("Type=notify", "KillMode=mixed", "TimeoutStopSec=720", "WatchdogSec=30", "NoNewPrivileges=yes"):
        assert line in text.splitlines()
    assert "CAP_NET_BIND_SERVICE" not in text
    assert "AmbientCapabilities=CAP_NET_BIND_SERVICE" in _unit(port=443).text().splitlines()
    with pytest.raises(ValueError, match="cannot stand in a unit"):
        _unit(cwd=Path("/srv/my gateway")).text()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze on this machine")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "api-gateway.service"
    unit.write_text(_unit().text())
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert (done.returncode, [line for line in done.stderr.splitlines() if "api-gateway.service" in line]) == (0, [])
    unit.write_text(_unit().text().replace("KillMode=mixed", "KillMode=mixd"))
    wrong = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert "KillMode" in wrong.stderr or "kill mode" in wrong.stderr, "the check checks"


def test_systemd_is_told(tmp_path: Path) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(path))
        notifier = Notifier({"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "30000000"})
        notifier.tell(READY=1, STATUS="2 of 2 processes ready")
        assert systemd.recv(1000) == b"READY=1\nSTATUS=2 of 2 processes ready"
    Notifier({}).tell(READY=1)
    notifier.tell(WATCHDOG=1)  # systemd went away


NO_MORE_FILES = """
import os, resource
from gateway.supervise.notify import Notifier
from gateway.supervise.process import Pipes
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
spare = []
def fill():
    try:
        while True:
            spare.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        return len(spare)
fill()
Notifier({"NOTIFY_SOCKET": "/nowhere"}).tell(WATCHDOG=1)
for number in range(3):
    os.close(spare.pop())
try:
    Pipes.made()
except OSError:
    before = len(spare)
    print(fill() - before)
"""


def test_a_supervisor_that_may_open_nothing_more_goes_on_looking_and_loses_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-c", NO_MORE_FILES], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "3\n"), done.stderr


def test_process_1_reaps_what_lost_its_parent_and_leaves_ours_alone() -> None:
    """Ours are reaped by those who started them, who want to know their exit codes."""
    foreign = _ended()
    reap_others(set())
    with pytest.raises(ChildProcessError):
        os.waitpid(foreign, 0)
    own = _ended()
    reap_others({own})
    assert os.waitpid(own, 0) == (own, 0)


def _ended() -> int:
    """A process that ended and was not waited for."""
    pid = os.posix_spawn(sys.executable, [sys.executable, "-c", ""], {})
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return pid


@pytest.mark.skipif(not Path("/proc").exists(), reason="no /proc on this machine")
def test_a_process_s_memory_and_time_are_those_of_the_kernel() -> None:
    found = usage_of(os.getpid())
    assert found is not None
    status = Path("/proc/self/status").read_text()
    rss = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))
    assert abs(found.rss_bytes - rss) < 8 * 1024**2
    assert 0 <= found.cpu_s - sum(os.times()[:2]) + 0.1 < 5
    assert usage_of(2**22 + 1) is None


def test_a_process_does_not_wait_for_a_supervisor_that_reads_no_output() -> None:
    """Frozen, it would freeze them all: their event loops stand still while they write to the log."""
    code = (
        "import os, sys; from gateway.supervise.child import outlive_reader; outlive_reader()\n"
        "for number in range(4000): print('x' * 100)\n"
        "os.write(2, b'written'); sys.stdin.readline(); print('it is read again')"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        try:
            assert select.select([process.stderr], [], [], 30)[0], "it waits for who does not read"
            assert process.stderr.read(7) == b"written"
            kept = os.read(process.stdout.fileno(), 1 << 20)
            rest, errors = process.communicate(b"\n", timeout=30)
        finally:
            process.kill()
    assert errors == b""
    assert kept.startswith(b"x" * 100 + b"\n")
    *_, told, last = rest.decode().splitlines()
    assert re.fullmatch(r"\d{3,} writes to the log were lost: the supervisor did not read them", told), told
    assert last == "it is read again"


def test_the_monitor_shows_whole_what_is_to_be_done_and_moves_no_cursor() -> None:
    reason = f"ended with 1: \x1b[2J{'x' * 100} raise max_memory_restart"
    found = Status(
        name="shop",
        pid=1,
        address="http://127.0.0.1:3003",
        instances=1,
        uptime_s=5,
        processes=[Supervised(number=0, state="waiting", reason=reason)],
        waiting={"email-queue": 7, "orchestration-queue": 0},
    )
    screen = Console(file=io.StringIO(), width=80, soft_wrap=True, force_terminal=False)
    screen.print(drawn(found, []))
    assert isinstance(screen.file, io.StringIO)
    text = screen.file.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    assert "raise max_memory_restart" in " ".join(text.split())
    assert "email-queue 7" in " ".join(text.split())
    assert "\x1b" not in text
