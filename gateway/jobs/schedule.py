"""What a schedule is, and what its callers may be told. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import msgspec

from gateway.jobs.errors import EngineError
from gateway.jobs.job import PRIORITY_MAX, PRIORITY_MIN
from gateway.jobs.ticks import BadTiming, Missed, Timing, check_timing, next_tick

MISSED_MAX: Final = 1000  # jobs at once
NAME: Final = r"[A-Za-z0-9][A-Za-z0-9._:-]{0,119}"
TIMES: Final = ("cron", "time_zone", "every_s", "start_at", "end_at")
YEARS: Final = (1970, 2200)  # of start and end: what lies beyond has no use, and date arithmetic has an end


class Overlap(StrEnum):
    """What a tick does while the job of the tick before is still open: another job, or none."""

    ENQUEUE = "enqueue"
    SKIP = "skip"


class NewSchedule(msgspec.Struct, frozen=True, kw_only=True):
    """What repeats, and when: ``cron`` in ``time_zone`` (IANA), or every ``every_s`` seconds.

    ``queue`` None: the task's. ``args``: the task's argument as plain JSON values; its field ``tick_arg`` gets the
    tick's time (ISO 8601 in UTC). ``missed_max``: jobs at once with ``missed`` all. ``start_at``, ``end_at``: the first
    and the last moment of a tick; intervals are counted from ``start_at``, or from when they were made or changed.
    """

    name: str
    task: str
    queue: str | None = None
    args: dict[str, Any] = {}
    tick_arg: str | None = None
    priority: int = 0
    cron: str | None = None
    time_zone: str = "UTC"
    every_s: int | None = None
    missed: Missed = Missed.ONCE
    missed_max: int = 100
    overlap: Overlap = Overlap.ENQUEUE
    start_at: datetime | None = None
    end_at: datetime | None = None


class Schedule(NewSchedule, frozen=True, kw_only=True):
    """As the ledger has it. ``next_at`` None: no tick comes any more; ``disabled_reason``: why it is not ``enabled``;
    ``skipped_at`` and ``skip_reason``: when and why ticks got no job of their own for the last time."""

    queue: str
    enabled: bool
    disabled_reason: str | None
    anchor_at: datetime
    next_at: datetime | None
    last_tick_at: datetime | None
    last_job_id: UUID | None
    skipped_at: datetime | None
    skip_reason: str | None
    revision: int
    created_at: datetime
    updated_at: datetime

    @property
    def timing(self) -> Timing:
        return timing_of(self, self.anchor_at)

    @property
    def definition(self) -> NewSchedule:
        return NewSchedule(**{name: getattr(self, name) for name in NewSchedule.__struct_fields__})


class ScheduleNotFound(EngineError):
    def __init__(self, name: str) -> None:
        super().__init__(f"no schedule {name[:120]!r}")


class ScheduleExists(EngineError):
    def __init__(self, name: str) -> None:
        super().__init__(f"there is a schedule {name!r} already")


class ScheduleDeclared(EngineError):
    """Its definition is code of this version."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name!r} is declared in code; pause it instead")


class ScheduleBusy(EngineError):
    """It waits for its last job."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the last job of {name!r} is still open, and its overlap policy is to wait for it")


class ScheduleChanging(EngineError):
    """Others change it at the same time, again and again."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name!r} is being changed by others; look at it and try again")


class InvalidSchedule(EngineError):
    """``field`` (of ``NewSchedule``) is wrong. For an argument that is none of its task's, ``cause`` names the place in
    it and ``wanted`` is the argument's type."""

    def __init__(
        self, field: str, message: str, cause: msgspec.ValidationError | None = None, wanted: Any = None
    ) -> None:
        super().__init__(f"{field} {message}")
        self.field = field
        self.message = message
        self.cause = cause
        self.wanted = wanted


def check(new: NewSchedule) -> NewSchedule:
    """What can be seen without a registry: the schedule, its times on whole seconds. Raises ``InvalidSchedule``."""
    if re.fullmatch(NAME, new.name) is None:
        raise InvalidSchedule("name", "is not 1 to 120 letters, digits and . _ : - that begin with a letter or digit")
    if not PRIORITY_MIN <= new.priority <= PRIORITY_MAX:
        raise InvalidSchedule("priority", f"is not within {PRIORITY_MIN} and {PRIORITY_MAX}")
    if not 1 <= new.missed_max <= MISSED_MAX:
        raise InvalidSchedule("missed_max", f"is not within 1 and {MISSED_MAX}")
    for field in ("start_at", "end_at"):
        moment: datetime | None = getattr(new, field)
        if moment is not None and (moment.tzinfo is None or not YEARS[0] <= moment.year < YEARS[1]):
            raise InvalidSchedule(field, f"is not a time with a zone, of the years {YEARS[0]} to {YEARS[1] - 1}")
    new = msgspec.structs.replace(new, start_at=_whole(new.start_at), end_at=_whole(new.end_at))
    try:
        timing = timing_of(new, datetime.now(UTC))
        check_timing(timing)
        next_tick(timing, datetime.now(UTC))
    except BadTiming as error:
        raise InvalidSchedule(error.field, error.message) from None
    return new


def schedule_of(row: Any) -> Schedule:
    """From a row of the table. Raises ValueError for words that a newer version wrote."""
    values = {name: row[name] for name in Schedule.__struct_fields__}
    return Schedule(**(values | {"missed": Missed(row["missed"]), "overlap": Overlap(row["overlap"])}))


def _whole(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.astimezone(UTC).replace(microsecond=0)


def timing_of(new: NewSchedule, anchor: datetime) -> Timing:
    """``anchor``: intervals are counted from it."""
    return Timing(anchor=anchor, **{field: getattr(new, field) for field in TIMES})
