"""What is told of a run while it happens (docs/realtime.md): ids, numbers, and a model's words as they come."""

from __future__ import annotations

import asyncio
from typing import Final
from uuid import UUID

from gateway.infra.loops import Loop
from gateway.realtime.channel import Channel, Publisher, Topic
from gateway.services.orchestration.plan import Step, StepStatus
from gateway.services.orchestration.runs import RunStatus, RunStore

UNTOLD_POLL_S: Final = 1.0
_UNTOLD_BATCH: Final = 100
_WRITTEN_S: Final = 2.0  # what is not in a log by then is told again
_LOOKS: Final = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)  # seconds after a run's last step: its job is being settled


class RunTeller:
    """Tells on the run's and on the project's channel."""

    def __init__(self, publisher: Publisher, run_id: UUID, project_id: UUID) -> None:
        self._publisher = publisher
        self._run = Channel(Topic.JOB, str(run_id))
        self._both = (self._run, Channel(Topic.PROJECT, str(project_id)))
        self._fields = {"jobId": str(run_id)}

    def started(self) -> None:
        self._publisher.publish(self._both, "job:started", self._fields)

    def progress(self, stage: str, percent: int) -> None:
        fields = {**self._fields, "progress": {"stage": stage, "percent": percent}}
        self._publisher.publish(self._both, "job:progress", fields)

    def step(self, step: Step, status: StepStatus) -> None:
        fields = {**self._fields, "stepId": str(step.id), "agentSlug": step.agent_slug, "status": status}
        self._publisher.publish(self._both, "run:step", fields)

    def approval(self, action_id: UUID, status: str) -> None:
        fields = {**self._fields, "actionId": str(action_id), "status": status}
        self._publisher.publish(self._both, "run:approval", fields)

    def tokens(self, step_id: UUID, text: str) -> None:
        """Who follows the project as a whole reads no words."""
        self._publisher.publish((self._run,), "run:token", {**self._fields, "stepId": str(step_id), "text": text})

    def ended(self, status: RunStatus) -> None:
        kind = "job:completed" if status is RunStatus.COMPLETED else "job:failed"
        self._publisher.publish(self._both, kind, {**self._fields, "status": status})


class RunEnds:
    """Tells how runs ended, after the commit and however they did: also those that were cancelled while they waited,
    that expired, or whose processes died. A component (soon after a run of this process), and a chore (the others).

    At least once: a run counts as told when the message is in the log. What a process that dies takes along is told by
    another one; twice does no harm, as a message only says what to fetch.
    """

    name = "run ends"

    def __init__(self, store: RunStore, publisher: Publisher) -> None:
        self._store = store
        self._publisher = publisher
        self._expected = asyncio.Event()
        self._telling = asyncio.Lock()  # the component and the chore need not tell of the same run
        self._loop = Loop(self.name, self._look)

    async def start(self) -> None:
        await self._loop.start()

    async def stop(self) -> None:
        await self._loop.stop()

    def expect(self) -> None:
        """A run is about to end here."""
        self._expected.set()

    async def tell(self) -> int:
        """Tell what was not told; answers of how many runs."""
        told = 0
        async with self._telling:
            while True:
                number = await self._tell_some()
                told += number
                if number < _UNTOLD_BATCH:
                    return told

    async def _tell_some(self) -> int:
        ended = await self._store.untold(_UNTOLD_BATCH)
        if not ended:
            return 0
        for run_id, project_id, status in ended:
            RunTeller(self._publisher, run_id, project_id).ended(status)
        try:
            async with asyncio.timeout(_WRITTEN_S):
                await self._publisher.written()
        except TimeoutError:
            return 0
        await self._store.told(ended)
        return len(ended)

    async def chore(self) -> None:
        await self.tell()

    async def _look(self) -> float:
        await self._expected.wait()
        self._expected.clear()
        for pause in _LOOKS:
            await asyncio.sleep(pause)
            if await self.tell() and not self._expected.is_set():
                break
        return 0.0
