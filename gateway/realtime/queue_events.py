"""What happens in the engine, told on ``queue:{name}``, and on ``job:{id}`` for features that publish nothing.

A queue may end thousands of jobs a second: what ended is summed up over half a second, and told only where somebody
listens.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection
from typing import Final

from gateway.infra.loops import Loop
from gateway.jobs.events import BrokerChanged, Event, Events, JobReported, JobSettled, JobStalled
from gateway.jobs.job import JobState
from gateway.realtime.channel import Channel, Topic
from gateway.realtime.publisher import LogPublisher

SUM_S: Final = 0.5
_ENDS: Final = {
    JobState.COMPLETED: "job:completed",
    JobState.FAILED: "job:failed",
    JobState.CANCELLED: "job:failed",
}


class QueueEvents:
    """A component. ``queues``: all of them; ``follow``: those whose jobs' ends are told on the jobs' channels."""

    name = "queue events"

    def __init__(
        self, publisher: LogPublisher, events: Events, queues: Collection[str], follow: Collection[str]
    ) -> None:
        self._publisher = publisher
        self._queues = tuple(queues)
        self._follow = frozenset(follow)
        self._sums: defaultdict[str, Counter[str]] = defaultdict(Counter)  # by queue: attempts by how they ended
        self._reported: Counter[str] = Counter()  # by queue: attempts that said how far they are
        self._loop = Loop(self.name, self._tell)
        events.subscribe(self._on_event)

    async def start(self) -> None:
        await self._loop.start()

    async def stop(self) -> None:
        await self._loop.stop()
        await self._tell()

    def _on_event(self, event: Event) -> None:
        match event:
            case JobSettled(job=job, kind=kind, state=state):
                self._sums[job.queue][kind] += 1
                if job.queue in self._follow and state in _ENDS:
                    self._end(str(job.id), _ENDS[state], state)
            case JobStalled(queue=queue, state=state):
                self._sums[queue]["stalled"] += 1
                if queue in self._follow and state in _ENDS:
                    self._end(event.job_id, _ENDS[state], state)
            case JobReported(job_id=job_id, queue=queue, progress=progress):
                self._reported[queue] += 1
                if queue in self._follow and progress is not None:
                    fields = {"jobId": job_id, "progress": {"stage": progress[0], "percent": progress[1]}}
                    self._publisher.hint((Channel(Topic.JOB, job_id),), "job:progress", fields)
            case BrokerChanged(mode=mode, reason=reason):
                for queue in self._queues:
                    fields = {"queue": queue, "mode": mode, "reason": reason}
                    self._publisher.hint((Channel(Topic.QUEUE, queue),), "queue:mode", fields)
            case _:
                pass

    def _end(self, job_id: str, kind: str, state: JobState) -> None:
        self._publisher.hint((Channel(Topic.JOB, job_id),), kind, {"jobId": job_id, "state": state})

    async def _tell(self) -> float:
        for queue in dict.fromkeys([*self._sums, *self._reported]):
            fields = {"queue": queue, "ended": dict(self._sums[queue]), "reported": self._reported[queue]}
            self._publisher.hint((Channel(Topic.QUEUE, queue),), "queue:jobs", fields)
        self._sums.clear()
        self._reported.clear()
        return SUM_S
