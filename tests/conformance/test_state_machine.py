"""The engine against the model of ``docs/states.md``: random histories of what workers, administrators and faults do.

Two replicas share one ledger. After every step all rows are compared with the model's: states, attempts, stalls,
fences, errors, counts. So nothing is lost, nothing is done by who does not hold the job (B), claims come in order (E),
only real failures count (F), numbers are exact (J), with Redis and without (H).

Always the same histories; ``MODEL_EXAMPLES=1000`` runs as many new ones and prints how to repeat one that fails.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule, run_state_machine_as_test

from gateway.jobs.errors import JobNotFound
from gateway.jobs.job import OPEN, Inserted, JobState
from gateway.jobs.operations import Action, Selection
from gateway.jobs.search import JobFilter
from tests.conformance.histories import GROUPS, Work
from tests.conformance.model import ENDED, Ending
from tests.conformance.world import GROUP_WIDTH, HOUR_S, World
from tests.support.engine import QUEUE

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "0"))
ROWS = """
SELECT id, seq, state, priority, attempts, max_attempts, stalls, fence, worker, dedupe_key, tags,
       cancel_reason IS NOT NULL AS unwanted, lease_until IS NOT NULL AS leased, finished_at IS NOT NULL AS finished,
       expires_at IS NOT NULL AS deadline,
       ARRAY(SELECT entry ->> 'kind' FROM jsonb_array_elements(errors) entry) AS kinds
FROM jobs
"""
NAMES = ["id", "seq", "state", "priority", "attempts", "max_attempts", "stalls", "fence", "worker", "unwanted", "kinds"]


class QueueMachine(Work):
    # Administrators

    @precondition(lambda self: self.model.jobs)
    @rule(data=st.data(), running=st.booleans())
    def cancel(self, data: st.DataObject, running: bool) -> None:
        job, engine = self.some_job(data), self.one.engine
        asked = engine.cancel_running(job.id, "not wanted") if running else engine.cancel(job.id, "not wanted")
        assert self.refused(asked) is not self.model.cancel(job, running=running)

    @precondition(lambda self: self.model.jobs)
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        job = self.likely_job(data, JobState.FAILED)
        assert self.refused(self.one.engine.retry(job.id)) is not self.model.retry(job)

    @rule()
    def retry_all_failed(self) -> None:
        assert self.do(self.one.engine.retry_all_failed(QUEUE)) == self.model.retry_failed(
            list(self.model.jobs.values())
        )

    @precondition(lambda self: self.model.having(*ENDED))
    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        old = self.some_job(data, *ENDED)
        if not self.model.may_replay(old):
            assert self.refused(self.one.inspector.replay(old.id, {"again": True}))
            return
        new = self.do(self.one.inspector.replay(old.id, {"again": True}))
        assert (new.args, new.state) == ({"again": True}, JobState.WAITING)
        seq = self.do(self.world.pool.fetchval("SELECT seq FROM jobs WHERE id = $1", new.id))
        inserted = Inserted(id=new.id, queue=QUEUE, state=new.state, priority=old.priority, seq=seq)
        self.record(inserted, key=old.key, tags=old.tags, group=old.group)

    @precondition(lambda self: self.model.jobs)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        job = self.some_job(data)
        assert self.refused(self.one.inspector.delete(job.id, "not wanted")) is not self.model.delete(job)
        if job.id not in self.model.jobs:
            assert self.refused(self.one.inspector.delete(job.id, "not wanted"), JobNotFound)

    @precondition(lambda self: self.model.jobs)
    @rule(data=st.data())
    def promote(self, data: st.DataObject) -> None:
        job = self.likely_job(data, JobState.DELAYED)
        assert self.refused(self.one.inspector.promote(job.id)) is not self.model.promote(job)

    @precondition(lambda self: self.model.jobs)
    @rule(data=st.data(), later=st.booleans())
    def reschedule(self, data: st.DataObject, later: bool) -> None:
        job = self.likely_job(data, JobState.WAITING, JobState.DELAYED)
        run_at = datetime.now(UTC) + timedelta(seconds=HOUR_S if later else -1)
        assert self.refused(self.one.engine.reschedule(job.id, run_at)) is not self.model.reschedule(job, later=later)

    @precondition(lambda self: self.model.jobs)
    @rule(data=st.data(), action=st.sampled_from(Action), by_filter=st.booleans())
    def change_many(self, data: st.DataObject, action: Action, by_filter: bool) -> None:
        if by_filter:
            chosen, jobs = (
                Selection(queue=QUEUE, filter=JobFilter(states=action.suits)),
                self.model.having(*action.suits),
            )
        else:
            jobs = self.some_jobs(data)
            chosen = Selection(queue=QUEUE, ids=tuple(job.id for job in jobs))
        operations = self.one.inspector.operations
        operation = self.do(operations.start(action, chosen, "ann", None))
        self.do(operations.work())
        ended, done = self.do(operations.get(operation.id)), self.model.in_bulk(action, jobs)
        assert (ended.state, ended.done, ended.failed) == ("completed", done, len(jobs) - done)

    @rule(state=st.sampled_from((JobState.COMPLETED, JobState.FAILED)))
    def clean(self, state: JobState) -> None:
        gone = self.model.having(state)
        assert self.do(self.one.inspector.clean(QUEUE, 0.0, [state], 100)) == {state: len(gone)}
        for job in gone:
            self.model.delete(job)

    @rule()
    def pause(self) -> None:
        self.do(self.one.engine.pause(QUEUE, reason="maintenance"))
        self.model.paused = True

    @rule()
    def resume(self) -> None:
        self.do(self.one.engine.resume(QUEUE))
        self.model.paused = False

    # What always holds

    @invariant()
    def all_is_as_the_model_says(self) -> None:
        self.take_turns()
        rows = {row["id"]: row for row in self.do(self.world.pool.fetch(ROWS))}
        assert rows.keys() == self.model.jobs.keys()
        for job_id, job in self.model.jobs.items():
            row = rows[job_id]
            wanted = {name: getattr(job, name) for name in NAMES} | {
                "dedupe_key": job.key,
                "tags": list(job.tags),
                "deadline": job.late is not None,
                "leased": job.state is JobState.ACTIVE,
                "finished": job.state in ENDED,
            }
            assert dict(row) == wanted, job
            assert row["fence"] >= self.fences.get(job_id, 0), job
            self.fences[job_id] = row["fence"]

        counts = self.do(self.one.engine.counts(QUEUE))
        assert {state: getattr(counts, state) for state in JobState} == {
            state: self.model.counts()[state] for state in JobState
        }

        for group in GROUPS:
            assert len(self.model.turns(group)) <= GROUP_WIDTH, self.model.turns(group)
        keys = Counter(job.key for job in self.model.having(*OPEN) if job.key)
        assert all(number == 1 for number in keys.values()), keys

    def teardown(self) -> None:
        """Whatever happened, what is open can be brought to its end: nobody is stuck."""
        self.resume()
        self.do(self.world.pool.execute("UPDATE jobs SET run_at = now() WHERE state = 'delayed'"))
        self.do(self.one.keeper.promote())
        for job in self.model.having(JobState.DELAYED):
            self.model.promote(job)
        for job in self.model.having(JobState.ACTIVE):
            job.lease_over = True
        self.do(self.world.pool.execute("UPDATE jobs SET lease_until = now() - interval '1 s' WHERE state = 'active'"))
        self.rescue()
        self.expire()
        while self.model.having(*OPEN):
            self.relay()
            self.sweep_groups()
            self.fetch("two", 1000, False)
            assert self.held(), self.model.having(*OPEN)
            for entry in self.held():
                self.end(entry, Ending.COMPLETED)
            self.all_is_as_the_model_says()


@pytest.fixture(params=["queue", "direct"])
def mode_redis_url(request: pytest.FixtureRequest) -> str | None:
    return str(request.getfixturevalue("redis_url")) if request.param == "queue" else None


@pytest.mark.timeout(0 if EXAMPLES else 600)  # one that fails is made small first
def test_B_E_F_H_every_history_ends_as_the_model_says(database_url: str, mode_redis_url: str | None) -> None:
    profile = settings(
        max_examples=EXAMPLES or 30,
        stateful_step_count=60 if EXAMPLES else 50,
        derandomize=not EXAMPLES,
        print_blob=True,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        stack = AsyncExitStack()
        QueueMachine.runner, QueueMachine.world = runner, runner.run(World.open(stack, database_url, mode_redis_url))
        try:
            run_state_machine_as_test(QueueMachine, settings=profile)
        finally:
            runner.run(stack.aclose())
