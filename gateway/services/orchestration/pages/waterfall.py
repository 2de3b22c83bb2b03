"""When the steps of a run were at work, as bars beside each other. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec

from gateway.services.orchestration.pages.store import ShownStep
from gateway.services.orchestration.plan import StepStatus

_LEAST: Final = 0.6  # percent: what was short is seen too


class Bar(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """``x``, ``width``: percent of the run's time. ``from_s``: since its beginning; ``took_s``: of the last try."""

    x: float
    width: float
    from_s: float
    took_s: float


def bars(steps: Sequence[ShownStep], began: datetime | None, until: datetime) -> list[Bar | None]:
    """One for each step; None: it has not begun, or was taken over from another run. ``until``: the run's end, or
    now."""
    starts = [step.started_at for step in steps if step.started_at is not None]
    if not starts:
        return [None for _ in steps]
    first = min(starts) if began is None else min(began, *starts)
    last = max([until, *(step.finished_at for step in steps if step.finished_at is not None)])
    return [_bar(step, first, max((last - first).total_seconds(), 0.001), until) for step in steps]


def _bar(step: ShownStep, first: datetime, whole_s: float, until: datetime) -> Bar | None:
    if step.started_at is None or step.status is StepStatus.WAITING:  # what was cut is to be done again
        return None
    from_s = (step.started_at - first).total_seconds()
    took_s = max(0.0, ((step.finished_at or max(until, step.started_at)) - step.started_at).total_seconds())
    width = min(100.0, max(_LEAST, 100 * took_s / whole_s))
    return Bar(
        x=round(min(100 * from_s / whole_s, 100 - width), 2), width=round(width, 2), from_s=from_s, took_s=took_s
    )
