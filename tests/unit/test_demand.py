"""What autoscalers go by: jobs that wait for a worker count, those that only the rate limit holds back do not."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.jobs.demand import WAITING_PER_REPLICA, Work, demand_slots, rate_limited, useful_replicas
from gateway.jobs.policy import QueuePolicy, RateLimit

MAIL = QueuePolicy(
    name="email-queue", concurrency=5, rate=RateLimit(10, 1000), attempts=3, backoff_ms=60_000, timeout_s=60
)
AGENT = QueuePolicy(
    name="orchestration-queue", concurrency=3, rate=RateLimit(5, 60_000), attempts=3, backoff_ms=30_000, timeout_s=600
)
FREE = QueuePolicy(name="free", concurrency=5, rate=None, attempts=3, backoff_ms=60_000, timeout_s=60)


def work(waiting: int, active: float = 0, job_s: float | None = 0.5, *, paused: bool = False) -> Work:
    return Work(waiting=waiting, active=active, job_s=job_s, paused=paused)


@pytest.mark.parametrize(("policy", "job_s", "replicas"), [
    (MAIL, 0.4, 1), (MAIL, 0.5, 1), (MAIL, 1.5, 3), (AGENT, 120.0, 4), (AGENT, 360.0, 10), (MAIL, None, None),
    (FREE, 9.0, None),
])  # fmt: skip
def test_a_rate_limit_feeds_so_many_replicas(policy: QueuePolicy, job_s: float | None, replicas: int | None) -> None:
    assert useful_replicas(policy, job_s) == replicas


def test_waiting_jobs_that_more_replicas_would_not_start_are_left_out() -> None:
    assert rate_limited(MAIL, work(10_000)) == 9950
    assert rate_limited(MAIL, work(10_000, job_s=3.0)) == 10_000 - 6 * WAITING_PER_REPLICA
    assert rate_limited(MAIL, work(50)) == 0
    assert rate_limited(FREE, work(10_000)) == 0
    assert rate_limited(MAIL, work(10_000, job_s=None)) == 0, "nothing ran: it is not the limit that they wait for"


def test_ten_mails_a_second_of_half_a_second_need_five_slots_however_deep_the_queue() -> None:
    assert demand_slots(MAIL, work(10_000, active=5)) == 5
    assert demand_slots(MAIL, work(100_000, active=5)) == 5


def test_without_a_limit_the_backlog_is_worked_off_in_two_minutes() -> None:
    assert demand_slots(FREE, work(12_000, active=10)) == 10 + 12_000 * 0.5 / 120
    assert demand_slots(FREE, work(36, active=9, job_s=600.0)) == 45, "long jobs all at once"


def test_a_paused_queue_needs_only_what_runs() -> None:
    assert demand_slots(FREE, work(10_000, active=2, paused=True)) == 2


def test_until_a_job_ran_one_replica_is_enough() -> None:
    assert demand_slots(FREE, work(10_000, job_s=None)) == 5
    assert demand_slots(FREE, work(2, job_s=None)) == 2


@given(
    st.sampled_from([MAIL, AGENT, FREE]),
    st.integers(0, 10**6),
    st.floats(0, 500),
    st.floats(0, 3600) | st.none(),
    st.booleans(),
)
def test_the_demand_is_between_what_runs_and_what_exists(
    policy: QueuePolicy, waiting: int, active: float, job_s: float | None, paused: bool
) -> None:
    slots = demand_slots(policy, work(waiting, active, job_s, paused=paused))
    assert math.isfinite(slots)
    assert min(active, policy.concurrency) <= slots <= waiting + active
    if policy.rate is not None and job_s is not None:
        assert slots <= max(active, policy.rate.per_second * job_s)
    assert 0 <= rate_limited(policy, work(waiting, active, job_s)) <= waiting
