"""How answers are printed: tables, tab-separated lines, spans of time, banner."""

from __future__ import annotations

import json
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest

from gateway.cli import banner
from gateway.cli.jobs import job_lines
from gateway.cli.output import ago, duration, harmless, print_facts, print_table
from gateway.cli.runs_watch import step_line
from gateway.cli.times import moment_of

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


def facts(redis_url: str | None = None) -> banner.DevFacts:
    return banner.DevFacts(
        url="http://localhost:3003",
        inbox_url="http://localhost:3003/dev/inbox",
        token="dev",
        queues=("email",),
        redis_url=redis_url,
        data_dir=Path(".gateway"),
        pid=812,
    )


def test_a_pipe_gets_tab_separated_lines(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["id", "error"], [["1", None], ["2", "two\twords\nand a \x1b[31mcolour"]])
    assert capsys.readouterr().out == "id\terror\n1\t-\n2\ttwo words and a [31mcolour\n"


def test_facts_are_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    print_facts({"queue": "email-queue", "args": {"a": "b"}})
    assert capsys.readouterr().out == 'queue\temail-queue\nargs\t{"a": "b"}\n'


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (59.9, "59s"), (60, "1m"), (3599, "59m"), (3600, "1h"), (200_000, "2d")]
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_ago() -> None:
    assert ago("2026-05-01T11:57:00Z", NOW) == "3m ago"
    assert ago("2026-05-01T14:00:00+00:00", NOW) == "in 2h"
    assert ago(None, NOW) == "-"


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("30m", NOW + timedelta(minutes=30)),
        ("15:00", NOW.replace(hour=15)),
        ("11:00", NOW.replace(day=2, hour=11)),
        ("2026-05-01T15:00", NOW.replace(hour=15)),
        ("2026-05-01T15:00+02:00", NOW.replace(hour=13)),
    ],
)
def test_moments(text: str, moment: datetime) -> None:
    assert moment_of(text, NOW) == moment


@pytest.mark.parametrize("text", ["later", "25:00", "m", "1:2:3", "2026-13-01T00:00"])
def test_what_is_no_moment(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a time"):
        moment_of(text, NOW)


def test_the_banner_has_the_facts_and_a_curl_that_a_shell_reads() -> None:
    text = banner.for_people(facts())
    assert "  API         http://localhost:3003           docs at /docs\n" in text
    assert "  Dashboard   http://localhost:3003/admin/queues: one click signs in\n" in text
    assert "direct mode" in text
    command = shlex.split(text.partition("Try it")[2].partition("Ctrl+C")[0])
    assert command[:4] == ["curl", "-X", "POST", "http://localhost:3003/api/v1/emails"]
    assert "Authorization: Bearer dev" in command
    assert json.loads(command[-1]) == banner.TRY_BODY


def test_the_banner_for_programs_is_one_line_per_fact() -> None:
    lines = dict(line.split("=", 1) for line in banner.for_programs(facts("redis://127.0.0.1:1/0")).splitlines())
    assert lines["url"] == "http://localhost:3003"
    assert lines["mode"] == "queue"
    assert shlex.split(shlex.split(lines["try"])[0])[0] == "curl"


def test_what_servers_said_of_a_job_moves_no_cursor() -> None:
    said = "550 \x1b[2J\x1b]0;title\x07 no\r\nlog 9  forged \u202e"
    error = {"attempt": 1, "at": "now", "kind": "SmtpError", "error": said}
    line = {"attempt": 1, "at": "now", "text": said}
    shown = "550 [2J]0;title no  log 9  forged "
    assert list(job_lines({"errors": [error], "logs": [line], "logsDropped": 2})) == [
        f"attempt 1  now  SmtpError: {shown}",
        "log: 2 lines before these are not kept",
        f"log 1  now  {shown}",
    ]
    assert harmless("a\x1b[2J\tb\r\nc\u202e") == "a[2J\tb\nc"


def test_what_agents_said_of_a_step_moves_no_cursor() -> None:
    said = {"agentSlug": "developer", "status": "failed", "error": "\x1b[2Jno", "latencyMs": 0, "takenFrom": None}
    usage = {"costCents": 0, "inputTokens": 0, "outputTokens": 0}
    assert step_line(said | {"usage": usage, "output": None}).endswith("  [2Jno")
