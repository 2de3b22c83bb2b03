"""What an attempt reports of itself while it runs: how far it is, and lines of a log. Pure, but for the time.

As BullMQ's ``updateProgress`` and ``log``: the last progress is the one that holds, and of the lines the newest stay.
"""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime
from typing import Final

import msgspec

from gateway.infra.log import without_secrets
from gateway.infra.postgres import storable_text
from gateway.jobs.job import ClaimedJob

STAGE_MAX: Final = 100  # characters
LINE_MAX: Final = 1000  # characters
LINES_KEPT: Final = 200  # of one attempt
ATTEMPTS_KEPT: Final = 10  # of one job, so a job that is snoozed for days does not grow without end


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """``percent``: 0 to 100, None when nobody knows how much there is; ``stage``: what is being done."""

    percent: int | None
    stage: str | None
    at: datetime


class Line(msgspec.Struct, frozen=True):
    """``number``: from 1 in each attempt."""

    number: int
    at: datetime
    text: str


class Report:
    """Of one attempt. ``pending``: lines that are not written yet, the newest ``LINES_KEPT``; ``lines``: how many it
    reported in all. ``version`` grows with each thing that it says; ``stored`` is the one that the ledger has, 0: none.
    ``ended``: the attempt was settled."""

    def __init__(self, job: ClaimedJob) -> None:
        self.job = job
        self.progress: Progress | None = None
        self.pending: deque[Line] = deque(maxlen=LINES_KEPT)
        self.lines = 0
        self.version = 0
        self.stored = 0
        self.ended = False

    def reach(self, percent: float | None, stage: str | None) -> None:
        """Values beyond 0 and 100 are taken for these: a task does not fail because of what it reports."""
        whole = None if percent is None else int(min(100.0, max(0.0, percent)))
        shown = None if stage is None else clean(stage, STAGE_MAX)
        self.progress = Progress(percent=whole, stage=shown, at=datetime.now(UTC))
        self.version += 1

    def log(self, text: str) -> None:
        self.lines += 1
        self.pending.append(Line(self.lines, datetime.now(UTC), clean(text, LINE_MAX)))
        self.version += 1

    @property
    def is_stored(self) -> bool:
        """Whether the ledger has all that it said."""
        return self.stored == self.version

    def written(self, version: int, lines: int) -> None:
        """The ledger has what it said up to ``version``, and up to line number ``lines``."""
        self.stored = version
        while self.pending and self.pending[0].number <= lines:
            self.pending.popleft()


def clean(text: str, most: int) -> str:
    """As PostgreSQL can store it, without secrets, and not longer than ``most`` and a word of how much is missing."""
    shown = storable_text(without_secrets(text[: 4 * most]))
    missing = len(shown) - most + max(0, len(text) - 4 * most)
    return shown if missing <= 0 else f"{shown[:most]}… ({missing} more characters)"
