"""Rules of the state machine: what comes in, what workers do, what the leader does, and what happens to them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from gateway.infra.uuid7 import uuid7
from gateway.jobs.errors import DuplicateJob, EngineError, WrongState
from gateway.jobs.job import OPEN, ClaimedJob, Inserted, JobState, NewJob
from gateway.jobs.policy import StallPolicy
from gateway.jobs.unique import OnConflict, Unique
from tests.conformance.model import MAX_STALLS, Claim, Ending, Job, Model
from tests.conformance.world import GROUP_WIDTH, HOUR_S, POLICY, World
from tests.support.engine import QUEUE, TASK, Replica

KEYS = ("ada", "bob")
GROUPS = ("red", "blue")

T = TypeVar("T")


class Work(RuleBasedStateMachine):
    world: World
    runner: asyncio.Runner

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.claims: list[tuple[Claim, ClaimedJob]] = []
        self.fences: dict[Any, int] = {}

    # How rules speak to the engine

    def do(self, work: Awaitable[T]) -> T:
        async def call() -> T:
            try:
                return await work
            finally:
                await self.world.quiet()

        return self.runner.run(call())

    def refused(self, work: Awaitable[object], error: type[EngineError] = WrongState) -> bool:
        try:
            self.do(work)
        except error:
            return True
        return False

    @property
    def one(self) -> Replica:
        return next(iter(self.world.holders.values()))

    def take_turns(self) -> None:
        """Who of a group has its turn, and its new place in line, are the engine's to say; the model checks them."""
        rows = self.do(self.world.pool.fetch("SELECT id, seq, blocked FROM jobs WHERE group_key IS NOT NULL"))
        for row in rows:
            job = self.model.jobs[row["id"]]
            job.told = job.told or (job.blocked and not row["blocked"])
            job.seq, job.blocked = row["seq"], row["blocked"]

    def some_job(self, data: st.DataObject, *states: JobState) -> Job:
        return data.draw(st.sampled_from(self.model.having(*(states or JobState))), label="job")

    def likely_job(self, data: st.DataObject, *states: JobState) -> Job:
        """Mostly one to which it can be done."""
        able = self.model.having(*states) if data.draw(st.sampled_from((True, True, True, False))) else []
        return self.some_job(data, *(states if able else JobState))

    def some_jobs(self, data: st.DataObject) -> list[Job]:
        everyone = list(self.model.jobs.values())
        return data.draw(st.lists(st.sampled_from(everyone), unique_by=id, min_size=1), label="jobs")

    def record(self, inserted: Inserted, **said: Any) -> None:
        assert not inserted.duplicate
        fields = {"max_attempts": POLICY.attempts, "state": inserted.state, **said}
        self.model.add(
            Job(id=inserted.id, name=self.model.ever, seq=inserted.seq, priority=inserted.priority, **fields)
        )

    # Arrival

    @initialize(priorities=st.lists(st.sampled_from((0, 5, 10)), min_size=1, max_size=4))
    def begin(self, priorities: list[int]) -> None:
        self.do(self.world.reset())
        for priority in priorities:
            self.submit(priority=priority)

    @rule(
        priority=st.sampled_from((0, 0, 5, 10)),
        later=st.booleans(),
        attempts=st.sampled_from((None, 1, 2)),
        key=st.sampled_from((None, *KEYS)),
        tags=st.sampled_from(((), ("invoice",))),
        deadline=st.booleans(),
        group=st.sampled_from((None, None, "red", "blue")),
    )
    def submit(
        self,
        priority: int,
        later: bool = False,
        attempts: int | None = None,
        key: str | None = None,
        tags: tuple[str, ...] = (),
        deadline: bool = False,
        group: str | None = None,
    ) -> None:
        run_at = datetime.now(UTC) + timedelta(seconds=HOUR_S) if later else None
        said = {"priority": priority, "run_at": run_at, "max_attempts": attempts, "dedupe_key": key, "tags": tags}
        expires_at = datetime.now(UTC) + timedelta(seconds=2 * HOUR_S) if deadline else None
        job = NewJob(id=uuid7(), queue=QUEUE, task=TASK, args={}, expires_at=expires_at, group=group, **said)
        inserted = self.do(self.one.engine.submit(job))
        if (holder := self.model.open_with(key)) is not None:
            assert (inserted.duplicate, inserted.id, inserted.state) == (True, holder.id, holder.state)
            return
        assert inserted.state is (JobState.DELAYED if later else JobState.WAITING)
        late = False if deadline else None
        self.record(inserted, max_attempts=attempts or POLICY.attempts, key=key, tags=tags, late=late, group=group)

    @rule(number=st.integers(2, 5), priority=st.sampled_from((0, 5)), group=st.sampled_from((None, *GROUPS)))
    def submit_many(self, number: int, priority: int, group: str | None) -> None:
        said = {"queue": QUEUE, "task": TASK, "args": {}, "priority": priority, "group": group}
        jobs = [NewJob(id=uuid7(), **said) for _ in range(number)]
        for inserted in self.do(self.one.engine.submit_many(jobs)):
            self.record(inserted, group=group)

    @rule(key=st.sampled_from(KEYS), policy=st.sampled_from(OnConflict), window=st.booleans())
    def submit_unique(self, key: str, policy: OnConflict, window: bool) -> None:
        job = NewJob(id=uuid7(), queue=QUEUE, task=TASK, args={}, dedupe_key=key)
        unique = Unique(on_conflict=policy, window_s=HOUR_S if window else None)
        holder = self.model.has_the_key(key, window=window)
        match self.model.yields(holder, policy):
            case None:
                assert self.refused(self.one.engine.submit_unique(job, unique), DuplicateJob)
            case True:
                self.record(self.do(self.one.engine.submit_unique(job, unique)), key=key)
            case False:
                assert holder is not None
                kept = self.do(self.one.engine.submit_unique(job, unique))
                assert (kept.duplicate, kept.id) == (True, holder.id)

    # Workers

    @rule(worker=st.sampled_from(("one", "two")), want=st.integers(1, 6), look=st.booleans())
    def fetch(self, worker: str, want: int, look: bool) -> None:
        told_only = self.world.redis is not None
        wanted = self.model.next_in_line(want, told_only=told_only, look=look)
        got = self.do(self.world.fetch(self.world.holders[worker], want, look=look))
        assert [self.model.jobs[claimed.id] for claimed in got] == wanted
        for job, claimed in zip(wanted, got, strict=True):
            claim = self.model.claim(job, worker)
            assert (claimed.attempt, claimed.fence, claimed.stalls) == (claim.attempt, claim.fence, job.stalls)
            assert (claimed.priority, claimed.max_attempts) == (job.priority, job.max_attempts)
            self.claims.append((claim, claimed))

    @precondition(lambda self: self.held())
    @rule(data=st.data(), ending=st.sampled_from((*Ending, Ending.FAIL)))
    def settle(self, data: st.DataObject, ending: Ending) -> None:
        self.end(data.draw(st.sampled_from(self.held()), label="claim"), ending)

    @rule(want=st.integers(1, 3), ending=st.sampled_from((*Ending, Ending.FAIL, Ending.FAIL)), unwanted=st.booleans())
    def work(self, want: int, ending: Ending, unwanted: bool) -> None:
        """Claims and their ends at once; ``unwanted``: somebody cancels them while they run."""
        before = len(self.claims)
        self.fetch("one", want, False)
        for claim, claimed in self.claims[before:]:
            if unwanted:
                self.do(self.one.engine.cancel_running(claim.job.id, "not wanted"))
                self.model.cancel(claim.job)
            self.end((claim, claimed), ending)

    @precondition(lambda self: self.lost())
    @rule(data=st.data(), ending=st.sampled_from(Ending))
    def settle_too_late(self, data: st.DataObject, ending: Ending) -> None:
        """With an old fence: best of all where somebody else holds the job now."""
        taken_over = [entry for entry in self.lost() if entry[0].job.state is JobState.ACTIVE]
        self.end(data.draw(st.sampled_from(taken_over or self.lost()), label="claim"), ending)

    def end(self, entry: tuple[Claim, ClaimedJob], ending: Ending) -> None:
        claim, claimed = entry
        holder = self.world.holders[claim.worker]
        holder.events.clear()
        self.do(self.world.run(holder, claimed, ending))
        held = self.model.settle(claim, ending)
        if ending is not Ending.INTERRUPTED:
            kind = "snoozed" if ending is Ending.REST else ending
            assert holder.settled(kind if held else "lost"), holder.events

    def held(self) -> list[tuple[Claim, ClaimedJob]]:
        return [entry for entry in self.claims if self.model.holds(entry[0])]

    def lost(self) -> list[tuple[Claim, ClaimedJob]]:
        return [entry for entry in self.claims if not self.model.holds(entry[0])]

    @precondition(lambda self: self.held())
    @rule(data=st.data())
    def a_holder_vanishes(self, data: st.DataObject) -> None:
        self.a_lease_runs_out(data)
        self.rescue()

    @precondition(lambda self: self.model.having(JobState.ACTIVE))
    @rule(data=st.data())
    def a_lease_runs_out(self, data: st.DataObject) -> None:
        job = self.some_job(data, JobState.ACTIVE)
        self.do(self.world.pool.execute("UPDATE jobs SET lease_until = now() - interval '1 s' WHERE id = $1", job.id))
        job.lease_over = True

    @precondition(lambda self: self.claims)
    @rule(worker=st.sampled_from(("one", "two")))
    def renew(self, worker: str) -> None:
        """All claims that this holder ever had: the answer is those that it still has."""
        mine = [claim for claim, _ in self.claims if claim.worker == worker]
        kept = self.do(self.world.holders[worker].store.renew([(claim.job.id, claim.fence) for claim in mine]))
        held = [claim for claim in mine if self.model.holds(claim)]
        assert kept == {(claim.job.id, claim.fence) for claim in held}
        for claim in held:
            claim.job.lease_over = False

    @precondition(lambda self: self.model.having(JobState.ACTIVE))
    @rule(data=st.data(), worker=st.sampled_from(("one", "two")))
    def release_claims_never_heard_of(self, data: st.DataObject, worker: str) -> None:
        running = [job for job in self.some_jobs(data) if job.state is JobState.ACTIVE]
        holder = self.world.holders[worker]
        released = self.do(holder.store.release_unknown([job.id for job in running], 0.0))
        self.do(holder.engine.offer(released))
        self.model.release(worker, running)

    # The leader

    @rule()
    def rescue(self) -> None:
        self.do(self.one.keeper.rescue(StallPolicy(max_stalls=MAX_STALLS)))
        self.model.rescue()

    @precondition(lambda self: self.model.having(JobState.DELAYED))
    @rule(data=st.data())
    def one_becomes_due(self, data: st.DataObject) -> None:
        job = self.some_job(data, JobState.DELAYED)
        self.do(self.world.pool.execute("UPDATE jobs SET run_at = now() WHERE id = $1", job.id))
        self.do(self.one.keeper.promote())
        self.model.promote(job)

    @precondition(lambda self: self.timely())
    @rule(data=st.data())
    def a_deadline_passes(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(self.timely()), label="job")
        self.do(self.world.pool.execute("UPDATE jobs SET expires_at = now() WHERE id = $1", job.id))
        job.late = True

    def timely(self) -> list[Job]:
        return [job for job in self.model.having(*OPEN) if job.late is False]

    @rule()
    def expire(self) -> None:
        self.do(self.world.deadlines.expire())
        self.model.expire()

    @rule()
    def relay(self) -> None:
        self.do(self.one.keeper.relay())
        for job in self.model.jobs.values():
            job.told = True

    @rule()
    def sweep_groups(self) -> None:
        """Whatever was missed: no group has room and a job that could use it."""
        self.do(self.one.groups.sweep())
        self.take_turns()
        for group in GROUPS:
            ready = self.model.turns(group)
            assert len(ready) == GROUP_WIDTH or not self.model.line(group), (group, ready)

    @rule()
    def fold(self) -> None:
        self.do(self.one.store.fold_counts())

    @precondition(lambda self: self.world.redis is not None)
    @rule()
    def redis_forgets(self) -> None:
        self.world.redis.flushall()
        self.model.forget()
