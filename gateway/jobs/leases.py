"""Renewing the leases of what runs here, and ending what is no longer ours."""

from __future__ import annotations

import asyncio
import time

import structlog

from gateway.infra.loops import Loop
from gateway.infra.postgres import LEDGER_ERRORS
from gateway.jobs.dispatch import Dispatcher
from gateway.jobs.executor import Executor
from gateway.jobs.policy import StallPolicy
from gateway.jobs.store import Store

log = structlog.get_logger(__name__)

CANCEL_POLL_S = 1.0  # how long a running job does not hear that it is to end
_AGAIN_S = 1.0  # after a renewal that failed
_UNKNOWN_GRACE_S = 5.0  # a claim whose answer came needs milliseconds to reach its slot


class LeaseKeeper:
    """A component. One statement renews every running attempt of this replica.

    What the answer leaves out was taken over: its local task is cancelled and settles nothing (invariant B). When the
    ledger does not answer nobody can take over through it either, so running work goes on; ``Attempt.still_held`` tells
    tasks that the lease has run out before they do something irrevocable.
    """

    name = "lease keeper"

    def __init__(self, executor: Executor, store: Store, dispatcher: Dispatcher, policy: StallPolicy) -> None:
        self._executor = executor
        self._store = store
        self._dispatcher = dispatcher
        self._policy = policy
        self._down_since: float | None = None
        self._loops = (Loop(self.name, self._keep), Loop("cancellations", self._heed_cancellations))

    async def start(self) -> None:
        for loop in self._loops:
            await loop.start()

    async def stop(self) -> None:
        for loop in self._loops:
            await loop.stop()

    async def _heed_cancellations(self) -> float:
        running = self._executor.running
        if running:
            for key, reason in (await self._store.cancel_requests([job_id for job_id, _ in running])).items():
                if (attempt := running.get(key)) is not None:
                    attempt.cancel("cancelled", reason)
        return CANCEL_POLL_S

    async def _keep(self) -> float:
        try:
            async with asyncio.timeout(self._policy.renew_ms / 2000):
                await self.renew()
                await self._release_unknown()
        except LEDGER_ERRORS as error:
            if self._down_since is None:  # an outage is two lines
                self._down_since = time.monotonic()
                log.warning("renewal_waits_for_ledger", running=len(self._executor.running), error=str(error))
            return _AGAIN_S
        if self._down_since is not None:
            log.info("renewal_recovered", down_s=round(time.monotonic() - self._down_since, 2))
            self._down_since = None
        return self._policy.renew_ms / 1000

    async def renew(self) -> None:
        held = list(self._executor.running)
        if not held:
            return
        asked = time.monotonic()
        kept = await self._store.renew(held)
        for key in held:
            attempt = self._executor.running.get(key)
            if attempt is None:
                continue
            if key in kept:
                attempt.lease_ends = asked + self._policy.lease_ms / 1000
            else:
                attempt.cancel("lost")

    async def _release_unknown(self) -> None:
        """A claim was committed and its answer lost with its connection: hand the jobs back before they count as
        stalled. What a fetch under way claimed is younger than the fetch, and its answer may still come."""
        grace_s = _UNKNOWN_GRACE_S + self._dispatcher.fetching_s
        running = [job_id for job_id, _ in self._executor.running]
        released = await self._store.release_unknown(running, grace_s)
        if released:
            log.warning("unheard_claims_released", jobs=len(released))
            await self._dispatcher.offer(released)
