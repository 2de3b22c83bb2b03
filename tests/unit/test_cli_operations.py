"""What the command line says of work on many jobs, and how it reads times that lie behind."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import click
import pytest

from gateway.cli.errors import CliError
from gateway.cli.operations import progress, raise_if_unfinished
from gateway.cli.times import since_of

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=timezone(timedelta(hours=2)))


def operation(**fields: Any) -> dict[str, Any]:
    return {"action": "retry", "state": "running", "done": 0, "failed": 0, "total": 12_000, "error": None} | fields


def test_progress_tells_count_rate_and_what_is_left() -> None:
    assert progress(operation(done=4000, failed=120), 6.73) == "retry 4,120/12,000  34 %  612/s  12s left"
    assert progress(operation(), 0.0) == "retry 0/12,000  0 %"
    assert progress(operation(done=12_000, state="completed"), 6.0) == "retry 12,000/12,000  100 %  2,000/s"
    assert progress(operation(done=5, total=0), 0.0) == "retry 5/0  100 %"


def test_only_work_that_was_done_whole_ends_well() -> None:
    raise_if_unfinished(operation(state="completed", done=12_000))
    for fields, said in (
        ({"state": "cancelled"}, "stopped by somebody"),
        ({"state": "failed", "error": "CheckViolation"}, "CheckViolation"),
        ({"state": "completed", "failed": 3}, "3 of 12000 could not be"),
    ):
        with pytest.raises(CliError, match=said):
            raise_if_unfinished(operation(**fields))


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2h", "2026-05-01T10:00:00+02:00"),
        ("7d", "2026-04-24T12:00:00+02:00"),
        ("11:30", "2026-05-01T11:30:00+02:00"),
        ("13:00", "2026-04-30T13:00:00+02:00"),
        ("2026-04-01T08:00Z", "2026-04-01T08:00:00+00:00"),
        ("2026-04-01T08:00", "2026-04-01T08:00:00+02:00"),
    ],
)
def test_since_lies_behind(text: str, moment: str) -> None:
    assert since_of(text, NOW) == moment
    assert since_of(None, NOW) is None


@pytest.mark.parametrize("text", ["", "soon", "2x", "25:00", "999999999d", "-2h"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(click.BadParameter):
        since_of(text, NOW)
