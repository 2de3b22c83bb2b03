"""What runs consist of, and what their steps mean together."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from gateway.infra.uuid7 import uuid7
from gateway.services.orchestration.plan import (
    Brought,
    Planned,
    Step,
    StepKind,
    StepStatus,
    dedupe_key,
    failure_of,
    later_key,
    left_to_do,
    next_key,
    percent,
    planned,
    result_of,
)
from gateway.services.orchestration.schemas import JobType, OrchestrationJobResult

RUN = uuid7()


def step(slug: str = "scout", status: StepStatus = StepStatus.COMPLETED, **fields: Any) -> Step:
    values: dict[str, Any] = dict.fromkeys(Step.__struct_fields__)
    numbers = dict.fromkeys(("position", "attempts", "input_tokens", "output_tokens", "cost_micros"), 0)
    given = {"id": uuid7(), "run_id": RUN, "kind": StepKind.AGENT, "agent_slug": slug, "status": status, "demo": False}
    return Step(**{**values, **numbers, **given, **fields})


def test_each_job_type_has_its_own_steps() -> None:
    agents = ["a", "b"]
    assert planned(JobType.BATCH, None, agents) == (Planned(StepKind.AGENT, "a"), Planned(StepKind.AGENT, "b"))
    assert planned(JobType.SINGLE_AGENT, "c", agents) == (Planned(StepKind.AGENT, "c"),)
    assert planned(JobType.GITHUB_ANALYSIS, None, agents) == (Planned(StepKind.ANALYSIS, None),)
    assert planned(JobType.BATCH, None, []) == ()


def test_what_is_done_or_never_works_is_not_done_again() -> None:
    steps = [
        step("done"),
        step("cut", StepStatus.WAITING),
        step("killed", StepStatus.RUNNING, attempts=1),
        step("refused", StepStatus.REFUSED),
        step("no-key", StepStatus.FAILED, error_kind="not_configured", attempts=1),
        step("broke-once", StepStatus.FAILED, error_kind="unavailable", attempts=1),
        step("broke-thrice", StepStatus.FAILED, error_kind="unavailable", attempts=3),
    ]
    assert [one.agent_slug for one in left_to_do(steps, 3)] == ["cut", "killed", "broke-once"]
    assert percent(steps, 3) == 57
    assert percent([], 3) == 0


@pytest.mark.parametrize(
    ("statuses", "success", "counts"),
    [
        ((StepStatus.COMPLETED, StepStatus.COMPLETED), True, (2, 2, 0)),
        ((StepStatus.COMPLETED, StepStatus.FAILED), True, (2, 1, 1)),
        ((StepStatus.FAILED, StepStatus.REFUSED), False, (2, 0, 2)),
        ((StepStatus.CANCELLED, StepStatus.CANCELLED), False, (0, 0, 0)),
    ],
)
def test_a_run_is_a_success_when_one_of_its_steps_is(
    statuses: tuple[StepStatus, ...], success: bool, counts: tuple[int, int, int]
) -> None:
    result = result_of(RUN, [step(status=status) for status in statuses], Brought(suggestions=4, tasks=2), 17)
    assert result.success is success
    assert (result.agents_executed, result.agents_succeeded, result.agents_failed) == counts
    assert (result.suggestions_created, result.tasks_created, result.duration_ms) == (4, 2, 17)
    assert (result.error is None) == (StepStatus.FAILED not in statuses)


def test_an_analysis_counts_no_agents() -> None:
    result = result_of(RUN, [step(kind=StepKind.ANALYSIS, agent_slug=None)], Brought(), 1)
    assert result == OrchestrationJobResult(
        success=True,
        job_id=str(RUN),
        agents_executed=0,
        agents_succeeded=0,
        agents_failed=0,
        tasks_created=0,
        suggestions_created=0,
        duration_ms=1,
    )


def test_what_went_wrong_is_one_sentence() -> None:
    alone = [step(status=StepStatus.FAILED, error="openai answered 500")]
    assert failure_of(alone) == "scout: openai answered 500"
    refusing = step("critic", StepStatus.REFUSED, refusal="No.")
    assert failure_of([step(), *alone, refusing]) == (
        "2 of 3 steps failed: scout: openai answered 500; critic: the model refused"
    )
    assert failure_of([step()]) is None
    assert len(failure_of([step(status=StepStatus.FAILED, error="x" * 5000)]) or "") == 1000


def test_keys_are_of_project_and_kind() -> None:
    project = UUID(int=7)
    assert dedupe_key(project, JobType.BATCH, None, None) == f"run:{project}:batch"
    assert dedupe_key(project, JobType.SINGLE_AGENT, "scout", None) == f"run:{project}:single_agent:scout"
    assert dedupe_key(project, JobType.BATCH, None, "mine") == f"run:{project}:key:mine"
    assert sorted([next_key("k"), "k"]) == ["k", next_key("k")], "who holds the key is locked first"
    assert later_key("k", datetime(2026, 5, 1, 9, tzinfo=UTC)) == "k@2026-05-01T09:00:00.000000Z"
