"""Which code performs which task, and which queue it belongs to."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Coroutine
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from gateway.jobs.errors import UnknownQueue, UnknownTask
from gateway.jobs.job import ClaimedJob
from gateway.jobs.policy import QueueOverrides, QueuePolicy, overridden

A = TypeVar("A")


class TaskContext(Protocol):
    """What a task may know of its attempt."""

    job: ClaimedJob

    @property
    def deadline_s(self) -> float:
        """Seconds left before the attempt is cut."""
        ...

    def irrevocable(self) -> None:
        """Say that the work has been done and only its record is left: from now on nothing cuts the attempt."""
        ...

    async def progress(self, percent: float | None, stage: str | None = None) -> None:
        """Say how far the work is, 0 to 100 (None: nobody knows how much there is), and what is being done.

        May be called as often as one likes: the last value of each half second is kept, and shown to people (BullMQ:
        ``updateProgress``). Never fails; a place where the attempt may be cut.
        """
        ...

    def log(self, text: str) -> None:
        """Add a line to the job's own log, which people read beside it (BullMQ: ``log``). Secrets are masked; the
        newest 200 lines of an attempt are kept, 1,000 characters of each. Says nothing that people or models wrote."""
        ...

    def still_held(self) -> bool:
        """False once this process learned that its lease is gone; the task is cancelled right after."""
        ...


@dataclass(frozen=True, slots=True)
class Task(Generic[A]):
    """A task: ``perform(argument, context)`` returns a JSON-able result, or raises (see ``errors``).

    ``report_after_s``: how long its attempts run until what they report is worth a row; those that complete sooner
    leave none. For tasks of which there are hundreds a second.
    ``no_replay``: why its jobs cannot be repeated with another argument, and what to do instead; None: they can.
    """

    name: str
    queue: str
    args: type[A]
    perform: Callable[[A, TaskContext], Coroutine[Any, Any, Any]]
    report_after_s: float = 0.0
    no_replay: str | None = None


class Registry:
    """Queues and tasks by name. Filled by ``runtime`` before the first worker starts; afterwards only ``controls``
    writes: what an administrator replaced."""

    def __init__(self) -> None:
        self._declared: dict[str, QueuePolicy] = {}
        self._queues: dict[str, QueuePolicy] = {}
        self._tasks: dict[str, Task[Any]] = {}

    def add_queue(self, policy: QueuePolicy) -> None:
        if policy.name in self._queues:
            raise ValueError(f"queue {policy.name!r} is declared twice")
        self._declared[policy.name] = self._queues[policy.name] = policy

    def override(self, name: str, overrides: QueueOverrides) -> bool:
        """Replace parts of the declared policy from now on. Answers whether anything is different now."""
        policy = overridden(self.declared(name), overrides)
        changed = policy != self._queues[name]
        self._queues[name] = policy
        return changed

    def add_task(self, task: Task[Any]) -> None:
        """Raises ValueError when the name is taken, the queue unknown or the function not async."""
        if task.name in self._tasks:
            raise ValueError(f"task {task.name!r} is declared twice")
        if not inspect.iscoroutinefunction(task.perform):
            raise ValueError(f"task {task.name!r} is not async: it would block the one event loop")
        self.queue(task.queue)
        self._tasks[task.name] = task

    @property
    def queues(self) -> tuple[QueuePolicy, ...]:
        return tuple(self._queues.values())

    @property
    def queue_names(self) -> tuple[str, ...]:
        return tuple(self._queues)

    @property
    def task_names(self) -> tuple[str, ...]:
        return tuple(self._tasks)

    def queue(self, name: str) -> QueuePolicy:
        """The policy as it holds now."""
        return self._known(self._queues, name)

    def declared(self, name: str) -> QueuePolicy:
        """The policy of this replica's settings, without what an administrator replaced."""
        return self._known(self._declared, name)

    def _known(self, policies: dict[str, QueuePolicy], name: str) -> QueuePolicy:
        try:
            return policies[name]
        except KeyError:
            raise UnknownQueue(name, self.queue_names) from None

    def queues_named(self, names: Collection[str]) -> tuple[QueuePolicy, ...]:
        """Queues by their names, in full or short (``email`` for ``email-queue``). Raises ``UnknownQueue``."""
        known = {name: name for name in self._queues} | {_short(name): name for name in self._queues}
        for name in names:
            if name not in known:
                raise UnknownQueue(name, tuple(map(_short, self._queues)))
        wanted = {known[name] for name in names}
        return tuple(policy for policy in self.queues if policy.name in wanted)

    def task(self, name: str) -> Task[Any]:
        try:
            return self._tasks[name]
        except KeyError:
            raise UnknownTask(name) from None


def _short(queue: str) -> str:
    return queue.removesuffix("-queue")
