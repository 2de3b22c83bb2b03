"""The command line against a running instance, and against set-ups that are wrong."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from gateway.settings import Settings
from tests.support.dev_process import DevProcess, clean_environment, gateway
from tests.support.eventually import eventually
from tests.support.gateway import running
from tests.support.smtp_server import ScriptedSmtp

SECRET = "7c1d9f0ab3e64258" * 2
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def home(server_directory: Path) -> Path:
    path = server_directory / f"cli-{os.getpid()}"
    path.mkdir()
    return path


@pytest.fixture(scope="module")
def dev(home: Path) -> Iterator[DevProcess]:
    """One ``gateway dev`` for all tests of this file."""
    process = DevProcess(home, "--port", "0")
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(process.ready())
    yield process
    process.stop()


@pytest.fixture
def run(dev: DevProcess) -> Run:
    """Run a command beside that instance."""
    return lambda *arguments, **more: gateway(*arguments, cwd=dev.cwd, **more)


def rows(output: str) -> list[dict[str, str]]:
    """Lines of a table as it comes out of a pipe."""
    header, *lines = (line.split("\t") for line in output.splitlines())
    return [dict(zip(header, line, strict=True)) for line in lines]


def facts(output: str) -> dict[str, str]:
    return dict(line.split("\t", 1) for line in output.splitlines() if "\t" in line)


def later(hours: int) -> str:
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat()


def send(run: Run, *options: str) -> dict[str, Any]:
    done = run("email", "send", "--to", "a@example.com", "--subject", "s", "--text", "t", "--json", *options)
    assert done.returncode == 0, done.stderr
    accepted: dict[str, Any] = json.loads(done.stdout)
    return accepted


def test_queues_in_a_pipe_and_as_json(run: Run) -> None:
    assert [row["queue"] for row in rows(run("queues", "ls").stdout)] == ["email-queue", "orchestration-queue"]
    listed = json.loads(run("queues", "ls", "--json").stdout)
    assert listed[0]["limits"]["rateLimit"] == {"max": 10, "durationMs": 1000}
    assert json.loads(run("--json", "queues", "show", "email").stdout)["name"] == "email-queue"
    assert facts(run("queues", "show", "email").stdout)["concurrency"] == "5 per replica"


def test_pause_holds_mails_back_and_resume_lets_them_go(run: Run) -> None:
    paused = run("queues", "pause", "email", "--until", "2h", "--reason", "provider is down")
    assert paused.returncode == 0
    assert "provider is down" in facts(paused.stdout)["paused"]
    send(run)
    [waiting, *_] = json.loads(run("jobs", "ls", "--state", "waiting", "--json").stdout)
    assert waiting["task"] == "email.send"
    assert facts(run("queues", "resume", "email").stdout)["paused"] == "no"


async def test_a_pause_until_a_time_ends_by_itself(run: Run) -> None:
    paused = json.loads(run("queues", "pause", "email", "--until", "6s", "--reason", "a short rest", "--json").stdout)
    assert paused["paused"] is True
    mail = send(run)
    shown = facts(run("queues", "show", "email").stdout)
    assert "a short rest" in shown["waiting because"] or shown["paused"] == "no"

    def sent() -> bool:
        found = json.loads(run("email", "show", mail["id"], "--json").stdout)
        return found["status"] == "sent" and found["sentAt"] >= paused["pausedUntil"]

    await eventually(sent, 40)
    assert facts(run("queues", "show", "email").stdout)["paused"] == "no"


def test_limits_are_shown_changed_and_taken_back(run: Run) -> None:
    before = rows(run("queues", "limits", "email").stdout)
    assert before[0] == {"limit": "concurrency", "now": "5 per replica", "settings": "5 per replica"}
    options = ("--concurrency", "7", "--rate", "20/500ms", "--keep-failed", "1d")
    changed = {row["limit"]: row for row in rows(run("queues", "limits", "email", *options).stdout)}
    assert changed["rate"] == {"limit": "rate", "now": "20 per 0.5 s", "settings": "10 per 1 s"}
    assert changed["keep failed"]["now"] == "86400 s"
    assert facts(run("queues", "show", "email").stdout)["concurrency"] == "7 per replica"
    shown = json.loads(run("queues", "limits", "email", "--json").stdout)
    assert (shown["limits"]["concurrency"], shown["defaultLimits"]["concurrency"]) == (7, 5)
    assert rows(run("queues", "limits", "email", "--reset").stdout) == before


async def test_replicas_are_listed(run: Run) -> None:
    def as_declared() -> dict[str, str]:  # another test's limits may still be on their way back
        [found] = rows(run("replicas", "ls").stdout)
        assert (found["role"], found["draining"], found["busy"].split()[-1]) == ("all", "no", "8")
        return found

    replica = await eventually(as_declared, 30)
    assert json.loads(run("replicas", "ls", "--json").stdout)[0]["id"] == replica["id"]


async def test_a_mail_from_send_to_show(run: Run) -> None:
    mail_id = send(run)["id"]

    def sent() -> dict[str, Any] | None:
        mail: dict[str, Any] = json.loads(run("email", "show", mail_id, "--json").stdout)
        return mail if mail["status"] == "sent" else None

    mail = await eventually(sent, 20)
    assert mail["recipients"][0]["status"] == "accepted"
    assert run("email", "show", mail_id, "--text").stdout.strip() == "t"
    assert run("email", "show", mail_id, "--html").returncode == 5
    assert mail_id in [row["id"] for row in rows(run("email", "ls", "--status", "sent").stdout)]

    def completed() -> bool:  # a moment after the mail
        job = json.loads(run("jobs", "show", mail["jobId"], "--json").stdout)
        assert job["state"] == "completed", job
        return bool(job["result"]["success"])

    assert await eventually(completed, 20)
    assert run("jobs", "retry", mail["jobId"]).returncode == 1


def test_bodies_come_from_stdin_and_from_a_file(run: Run, home: Path) -> None:
    (home / "mail.json").write_text(json.dumps({"to": ["b@example.com"], "subject": "from a file", "text": "x"}))
    done = run("email", "send", "--data", "@mail.json", "--text", "-", "--at", later(5), "--json", stdin="from stdin")
    assert json.loads(done.stdout)["status"] == "scheduled", done.stderr
    mail = json.loads(run("email", "show", json.loads(done.stdout)["id"], "--json").stdout)
    assert (mail["subject"], mail["text"]) == ("from a file", "from stdin")
    (home / "broken.json").write_text("{")
    broken = run("email", "send", "--data", "@broken.json")
    assert (broken.returncode, broken.stdout) == (2, "")
    assert "broken.json is not JSON" in broken.stderr


def test_cancel_many_reports_each(run: Run) -> None:
    mail = send(run, "--at", later(5))
    job_id = json.loads(run("email", "show", mail["id"], "--json").stdout)["jobId"]
    unknown = "00000000-0000-7000-8000-000000000000"
    done = run("jobs", "cancel", unknown, job_id, "--reason", "not wanted")
    assert done.returncode == 5
    assert rows(done.stdout) == [{"id": job_id, "state": "cancelled"}]
    assert "1 of 2 done" in done.stderr
    again = run("jobs", "cancel", job_id)
    assert (again.returncode, "is cancelled" in again.stderr) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["queues", "show", "emial"], 5, 'did you mean "email"?'),
        (["queues", "pause", "email", "--until", "later"], 2, "examples: 15:00, 30m"),
        (["jobs", "ls", "--state", "fialed"], 2, "is not a state"),
        (["jobs", "ls", "--queue", "orchestration", "--state", "failed"], 5, "no failed jobs"),
        (["queues", "limits", "email", "--rate", "10"], 2, "examples: 10/1s, 5/m"),
        (["queues", "limits", "email", "--concurrency", "0"], 2, "0"),
        (["replicas", "drain", "nobody"], 5, "no live replica"),
        (["jobs", "show", "not-an-id"], 2, "is not a job id"),
        (["jobs", "show", "a b/../c"], 5, "There is no"),
        (["email", "send", "--subject", "s"], 2, "to"),
        (["token", "create", "--ttl", "soon"], 2, "examples: 15m, 12h, 30d"),
        (["token", "create", "--ttl", "9999d"], 2, "more than a year"),
        (["login-link", "--ttl", "2h"], 2, "1h at most"),
        (["login-link", "--at", "gateway.example"], 2, "https://gateway.example"),
        (["keys", "create", "--name", "x", "--scope", "emails:sned"], 2, "is not a scope"),
        (["keys", "revoke", "00000000-0000-7000-8000-000000000000"], 5, "gateway keys list"),
        (["--url", "http://127.0.0.1:9", "queues", "ls"], 3, "not reachable"),
        (["--url", "http://127.0.0.1:9", "keys", "list"], 3, "not reachable"),
        (["jobs", "retry"], 2, "--queue email"),
        (["jobs", "retry", "--queue", "email", "--status", "failed", "--dry-run"], 5, "no failed jobs"),
        (["--url", "localhost", "queues", "ls"], 2, "is not the address"),
    ],
)
def test_mistakes_are_explained_without_a_traceback(run: Run, arguments: list[str], code: int, said: str) -> None:
    done = run(*arguments)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    as_json = run("--json", *arguments)
    assert as_json.returncode == code
    assert json.loads(as_json.stderr.strip().splitlines()[-1])["error"]["message"]


def test_tokens_have_their_role_and_keys_their_scopes(run: Run, dev: DevProcess) -> None:
    def code_with(token: str, *arguments: str) -> int:
        return run(*arguments, GATEWAY_TOKEN=token).returncode

    viewer = run("token", "create", "--role", "viewer").stdout.strip()
    assert code_with(viewer, "queues", "ls") == 0
    assert code_with(viewer, "queues", "resume", "email") == 4
    assert code_with("nonsense", "queues", "ls") == 4
    as_json = json.loads(run("token", "create", "--sub", "ann", "--ttl", "5m", "--json").stdout)
    assert (as_json["sub"], as_json["role"]) == ("ann", "user")

    created = json.loads(run("keys", "create", "--name", "shop", "--json").stdout)
    assert created["scopes"] == ["emails:read", "emails:send"]
    assert code_with(created["key"], "email", "send", "--to", "a@example.com", "--subject", "s", "--text", "t") == 0
    assert code_with(created["key"], "queues", "ls") == 4
    listed = run("keys", "list").stdout
    assert created["key"] not in listed
    assert "shop" in [row["name"] for row in rows(listed)]
    assert run("keys", "revoke", created["id"]).returncode == 0
    assert code_with(created["key"], "email", "ls") == 4


def test_keys_of_a_named_instance_are_asked_of_it(run: Run, dev: DevProcess) -> None:
    elsewhere = dev.cwd / "no-database"
    elsewhere.mkdir(exist_ok=True)
    known = dev.facts()
    assert known is not None

    def named(*arguments: str, token: str = known["adminToken"]) -> subprocess.CompletedProcess[str]:
        return gateway("--url", known["url"], *arguments, cwd=elsewhere, GATEWAY_TOKEN=token)

    created = json.loads(named("keys", "create", "--name", "remote", "--json").stdout)
    assert created["key"].startswith("gw_")
    assert created["id"] in [row["id"] for row in rows(named("keys", "list").stdout)]
    assert json.loads(named("keys", "revoke", created["id"], "--json").stdout)["revokedAt"] is not None
    assert named("keys", "list", token=known["userToken"]).returncode == 4
    missing = gateway("keys", "list", cwd=elsewhere)
    assert missing.returncode == 2
    assert missing.stderr.startswith("Cannot run gateway keys list: 1 setting needs attention")


def test_a_login_link_signs_in_once_by_the_api_and_by_the_database(run: Run, dev: DevProcess) -> None:
    known = dev.facts()
    assert known is not None

    def signs_in(code: str) -> int:
        form = {"token": code}
        return httpx.post(f"{known['url']}/admin/queues/login", data=form, headers={"Origin": known["url"]}).status_code

    done = run("login-link", "--role", "operator", "--at", "https://gateway.example/")
    assert done.stderr.startswith("Good once, until ")
    link, _, code = done.stdout.strip().partition("#")
    assert link == "https://gateway.example/admin/queues/login"
    assert [signs_in(code), signs_in(code)] == [303, 403]
    own = run("login-link", "--sub", "ana", "--json", DATABASE_URL=known["databaseUrl"], SMTP_HOST="smtp.invalid")
    assert own.returncode == 0, own.stderr
    made = json.loads(own.stdout)
    assert (made["subject"], made["role"], made["createdBy"][:4]) == ("ana", "viewer", "cli:")
    assert made["url"] == f"http://localhost:3003/admin/queues/login#{made['code']}"
    assert signs_in(made["code"]) == 303


def test_a_token_needs_no_database(home: Path) -> None:
    elsewhere = home / "no-database-either"
    elsewhere.mkdir()
    done = gateway("token", "create", cwd=elsewhere, JWT_SECRET=SECRET)
    assert (done.returncode, done.stdout.count(".")) == (0, 2), done.stderr


async def test_failed_jobs_are_retried_together_only_when_that_is_confirmed(run: Run, dev: DevProcess) -> None:
    failed = ("jobs", "retry", "--queue", "email", "--status", "failed")
    none = run("--json", *failed, "--yes")
    assert (none.returncode, json.loads(none.stdout)) == (5, {"wouldRetry": 0})
    known = dev.facts()
    assert known is not None
    job_id = json.loads(run("email", "show", send(run, "--at", later(5))["id"], "--json").stdout)["jobId"]
    connection = await asyncpg.connect(known["databaseUrl"])
    await connection.execute("UPDATE jobs SET state = 'failed', finished_at = now() WHERE id::text = $1", job_id)
    await connection.close()

    assert facts(run(*failed, "--dry-run").stdout) == {"wouldRetry": "1"}
    unconfirmed = run(*failed)
    assert (unconfirmed.returncode, unconfirmed.stdout) == (2, "")
    assert "1 failed job of email will run again: confirm with --yes" in unconfirmed.stderr
    assert facts(run(*failed, "--yes").stdout) == {"retried": "1"}
    assert run(*failed, "--dry-run").returncode == 5


def test_a_refusal_alone_prints_no_table(run: Run) -> None:
    refused = run("jobs", "retry", "not-an-id")
    assert (refused.returncode, refused.stdout) == (2, "")
    both = run("jobs", "retry", "not-an-id", "--queue", "email")
    assert (both.returncode, "name jobs by their ids" in both.stderr) == (2, True)


def test_until_is_echoed_by_both_clocks(run: Run) -> None:
    tomorrow = f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%d}"
    paused = facts(run("queues", "pause", "orchestration", "--until", f"{tomorrow}T15:00", TZ="XST-5").stdout)["paused"]
    assert f"{tomorrow}T10:00:00" in paused
    assert f"({tomorrow} 15:00 XST here)" in paused
    assert run("queues", "resume", "orchestration").returncode == 0


def test_status_for_people_programs_and_shells(run: Run, dev: DevProcess) -> None:
    found = json.loads(run("status", "--json").stdout)
    assert found["mode"] == "direct"
    assert found["dev"]["pid"] == dev.process.pid
    assert [worker["pid"] for worker in found["workers"]] == [dev.process.pid]
    shell = dict(line.split("=", 1) for line in run("status", "--env").stdout.splitlines())
    known = dev.facts()
    assert known is not None
    assert (shell["GATEWAY_URL"], shell["GATEWAY_TOKEN"]) == (known["url"], known["adminToken"])
    elsewhere = dev.cwd / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    named = gateway(
        "queues", "ls", cwd=elsewhere, GATEWAY_URL=shell["GATEWAY_URL"], GATEWAY_TOKEN=shell["GATEWAY_TOKEN"]
    )
    assert named.returncode == 0
    assert gateway("queues", "ls", cwd=elsewhere).returncode == 3


def test_check_and_migrate_beside_a_running_instance(run: Run) -> None:
    checked = json.loads(run("check", "--json").stdout)
    assert {finding["name"]: finding["ok"] for finding in checked} == {
        "settings": True,
        "postgresql": True,
        "smtp": True,
    }
    assert run("migrate").stdout == "The database is up to date.\n"
    assert json.loads(run("migrate", "status", "--json").stdout)["pending"] == []


def test_config_show_masks_and_docs_list_every_setting(home: Path) -> None:
    environment = {"DATABASE_URL": "postgresql://u:hunter2@db/x", "JWT_SECRET": SECRET, "EMAIL_ATTEMPTS": "7"}
    shown = gateway("config", "show", cwd=home, **environment)
    assert "hunter2" not in shown.stdout
    assert SECRET not in shown.stdout
    values = {row["setting"]: (row["value"], row["source"]) for row in rows(shown.stdout)}
    assert values["EMAIL_ATTEMPTS"] == ("7", "environment")
    names = {field.upper() for field in Settings.model_fields}
    assert set(values) == names
    markdown = gateway("config", "docs", "--markdown", cwd=home).stdout.splitlines()
    assert markdown[:2] == ["| Variable | Default | Meaning |", "|---|---|---|"]
    assert {line.split("`")[1] for line in markdown[2:]} == names


def test_config_show_marks_what_is_wrong(home: Path) -> None:
    elsewhere = home / "wrong-settings"
    elsewhere.mkdir()
    done = gateway("config", "show", cwd=elsewhere, EMAIL_ATTEMPTS="many", PORT="4000", REDIS_ULR="x")
    assert done.returncode == 1
    shown = {row["setting"]: row for row in rows(done.stdout)}
    assert shown["PORT"] == {"setting": "PORT", "value": "4000", "source": "environment", "problem": "-"}
    assert shown["EMAIL_ATTEMPTS"]["problem"] == '"many" is not a whole number'
    assert shown["DATABASE_URL"]["problem"] == "is not set"
    assert done.stderr.startswith("These settings are not valid: 2 settings need attention")
    as_json = gateway("config", "show", "--json", cwd=elsewhere, EMAIL_ATTEMPTS="many")
    assert json.loads(as_json.stdout)["DATABASE_URL"] == {"value": None, "source": "default", "problem": "is not set"}


def test_check_prints_one_document_whatever_is_wrong(home: Path) -> None:
    elsewhere = home / "nothing-set"
    elsewhere.mkdir()
    done = gateway("--json", "check", cwd=elsewhere)
    assert done.returncode == 1
    [finding] = json.loads(done.stdout)
    assert (finding["name"], finding["ok"]) == ("settings", False)
    assert "DATABASE_URL" in finding["said"]


async def test_check_logs_in_at_the_mail_server(home: Path, database_url: str) -> None:
    async with running(ScriptedSmtp()) as smtp:
        settings = {"DATABASE_URL": database_url, "JWT_SECRET": SECRET, "SMTP_HOST": "127.0.0.1"}
        settings |= {"SMTP_PORT": str(smtp.port), "SMTP_USER": "u", "SMTP_PASSWORD": "hunter2"}
        done = await asyncio.to_thread(gateway, "check", "--json", cwd=home, **settings)
    found = {one["name"]: one for one in json.loads(done.stdout)}
    assert found["smtp"]["ok"] is False
    assert "AUTH" in found["smtp"]["said"]  # the server listens, and offers none
    assert "none fails" in found["smtp"]["said"]  # the queue would rest
    assert "hunter2" not in done.stdout + done.stderr


def test_serve_names_every_wrong_setting_at_once(home: Path) -> None:
    done = gateway("serve", cwd=home, EMAIL_ATTEMPTS="many", JWT_SECRET="change-me", REDIS_ULR="redis://x")
    assert (done.returncode, done.stdout) == (2, "")
    for name in ("DATABASE_URL", "EMAIL_ATTEMPTS", "JWT_SECRET", "Did you mean REDIS_URL?"):
        assert name in done.stderr
    assert "change-me" not in done.stderr.replace('it contains "change-me"', "")
    assert "Traceback" not in done.stderr


def test_a_database_that_is_away_is_named_without_its_password(home: Path) -> None:
    done = gateway("migrate", cwd=home, DATABASE_URL="postgresql://u:hunter2@127.0.0.1:9/x")
    assert done.returncode == 3
    assert "127.0.0.1:9" in done.stderr
    assert "hunter2" not in done.stderr
    checked = gateway(
        "check", cwd=home, DATABASE_URL="postgresql://u:hunter2@127.0.0.1:9/x", JWT_SECRET=SECRET, SMTP_HOST="127.0.0.1"
    )
    assert checked.returncode == 1
    assert "postgresql" in checked.stderr


def test_migrate_from_nothing(home: Path, empty_database_url: str) -> None:
    behind = gateway("migrate", "status", cwd=home, DATABASE_URL=empty_database_url)
    assert behind.returncode == 1
    assert "Run: gateway migrate" in behind.stderr
    done = gateway("migrate", cwd=home, DATABASE_URL=empty_database_url)
    assert (done.returncode, "migrating 1/" in done.stderr) == (0, True)
    assert gateway("migrate", "status", cwd=home, DATABASE_URL=empty_database_url).returncode == 0


class Serving:
    """``gateway serve`` (or ``worker``) with its two lines."""

    def __init__(self, verb: str, cwd: Path, **environment: str) -> None:
        self.output = cwd / f"{verb}.out"
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gateway", verb, "--port", "0", "--host", "127.0.0.1"],
                cwd=cwd,
                env=clean_environment(**environment),
                stdout=output,
                stderr=subprocess.DEVNULL,
            )

    async def lines(self) -> list[str]:
        def both() -> list[str] | None:
            assert self.process.poll() is None
            lines = self.output.read_text().splitlines()
            return lines if len(lines) == 2 else None

        return await eventually(both, 30, "the two lines of a start") or []

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@pytest.mark.parametrize(("verb", "role"), [("serve", "all"), ("worker", "worker")])
async def test_serve_and_worker_start_with_two_lines(verb: str, role: str, home: Path, database_url: str) -> None:
    settings = {
        "DATABASE_URL": database_url,
        "JWT_SECRET": SECRET,
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PASSWORD": "hunter2",
    }
    serving = Serving(verb, home, SMTP_USER="u", **settings)
    try:
        first, second = await serving.lines()
    finally:
        code = serving.stop()
    assert first == f"gateway 0.1.0 · role={role} · direct · email=5 orchestration=3 · smtp=127.0.0.1:587"
    assert second.startswith("listening on http://127.0.0.1:")
    assert code == 0


def test_serve_refuses_unknown_queues_and_taken_ports(home: Path, database_url: str) -> None:
    settings = {"DATABASE_URL": database_url, "JWT_SECRET": SECRET, "SMTP_HOST": "127.0.0.1"}
    unknown = gateway("serve", "--queues", "mail", "--port", "0", cwd=home, **settings)
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert 'No queue named "mail". Known: email, orchestration.' in unknown.stderr
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = taken.getsockname()[1]
        refused = gateway("serve", "--port", str(port), cwd=home, **settings)
    assert refused.returncode == 1
    assert f"Port {port} is used by process {os.getpid()}" in refused.stderr


def test_check_looks_at_redis(home: Path, database_url: str, redis_url: str) -> None:
    settings = {"DATABASE_URL": database_url, "JWT_SECRET": SECRET, "SMTP_HOST": "127.0.0.1", "SMTP_PORT": "9"}
    found = json.loads(gateway("check", "--json", cwd=home, REDIS_URL=redis_url, **settings).stdout)
    assert {one["name"]: one["ok"] for one in found} == {
        "settings": True,
        "postgresql": True,
        "redis": True,
        "smtp": False,
    }
    away = gateway("check", "--json", cwd=home, REDIS_URL="redis://:hunter2@127.0.0.1:9", **settings)
    [redis] = [one for one in json.loads(away.stdout) if one["name"] == "redis"]
    assert redis["ok"] is False
    assert "hunter2" not in away.stdout + away.stderr
