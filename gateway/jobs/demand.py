"""How many workers a queue can use: what autoscalers go by. Pure.

More replicas help jobs that wait for a worker, and none that wait for the rate limit, which holds over all replicas. By
Little's law a limit of ``rate`` starts a second keeps ``rate * job_seconds`` slots busy, and no more.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec

from gateway.jobs.policy import QueuePolicy

WAITING_PER_REPLICA: Final = 50  # document 003: one replica for each 50 waiting jobs
DRAIN_GOAL_S: Final = 120.0  # a backlog of short jobs should be gone in this time


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """A queue's jobs. ``active`` may be a mean over time; ``job_s``: mean time of an attempt in seconds, None: no job
    of the queue ran yet."""

    waiting: int
    active: float
    job_s: float | None
    paused: bool = False


def useful_replicas(policy: QueuePolicy, job_s: float | None) -> int | None:
    """The most replicas that the rate limit can feed; None: no limit, or nothing is known yet."""
    if policy.rate is None or job_s is None:
        return None
    return max(1, math.ceil(policy.rate.per_second * job_s / policy.concurrency))


def rate_limited(policy: QueuePolicy, work: Work) -> int:
    """How many of the waiting jobs only the rate limit holds back: those beyond what the useful replicas are for."""
    replicas = useful_replicas(policy, work.job_s)
    return 0 if replicas is None else max(0, work.waiting - replicas * WAITING_PER_REPLICA)


def demand_slots(policy: QueuePolicy, work: Work) -> float:
    """Worker slots, over all replicas, that the queue can use now.

    Enough to work the backlog off in ``DRAIN_GOAL_S`` (or a job's length, if that is longer), never more than the rate
    limit can feed or than there are jobs, never fewer than those that run. One replica's until a job's length is known.
    """
    waiting = 0 if work.paused else work.waiting
    jobs = waiting + work.active
    if work.job_s is None:
        return min(jobs, float(policy.concurrency))
    wanted = work.active + waiting * work.job_s / max(DRAIN_GOAL_S, work.job_s)
    fed = policy.rate.per_second * work.job_s if policy.rate is not None else math.inf
    return max(work.active, min(wanted, fed, jobs))
