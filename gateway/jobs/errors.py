"""What a task may raise to say how its attempt ended (a closed list), and what the engine raises to its callers.

Anything else that a task raises is an ordinary failure: it costs an attempt and is retried with back-off.
"""

from __future__ import annotations

from uuid import UUID


class TaskSignal(Exception):
    """Base of the expected ends of an attempt. They are logged in one line, without a traceback."""


class Retry(TaskSignal):
    """The attempt failed and costs one; try again after the queue's back-off, or after ``after_s`` seconds.

    ``uncertain``: the work may have been done although it could not be confirmed (a connection cut after DATA).
    """

    def __init__(self, reason: str, *, after_s: float | None = None, uncertain: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after_s = after_s
        self.uncertain = uncertain


class Fail(TaskSignal):
    """The attempt failed for good: no retry however many attempts are left."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Snooze(TaskSignal):
    """Nothing was tried: run again after ``after_s`` seconds, at no cost.

    With ``pause_queue`` the whole queue rests as long (a provider said 421 or 429): its jobs wait instead of burning
    attempts.
    """

    def __init__(self, reason: str, *, after_s: float, pause_queue: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after_s = after_s
        self.pause_queue = pause_queue


class Cancel(TaskSignal):
    """The work is no longer wanted: the job ends as cancelled."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class EngineError(Exception):
    """Base of what the engine raises to its callers."""


class UnknownQueue(EngineError):
    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        super().__init__(f"unknown queue {name!r} (known: {', '.join(known)})")
        self.name = name
        self.known = known


class UnknownTask(EngineError):
    def __init__(self, name: str) -> None:
        super().__init__(f"no task named {name!r} is registered")
        self.name = name


class QueueFull(EngineError):
    """As many jobs wait as the queue may have; ``retry_after_s``: when to ask again, in seconds."""

    def __init__(self, queue: str, most: int, retry_after_s: int) -> None:
        super().__init__(f"{queue} is full: {most} jobs wait already")
        self.queue = queue
        self.most = most
        self.retry_after_s = retry_after_s


class JobNotFound(EngineError):
    def __init__(self, job_id: UUID) -> None:
        super().__init__(f"no job {job_id}")
        self.job_id = job_id


class DuplicateJob(EngineError):
    """Another job has the key, and the policy is not to wait beside it. ``job_id`` is that job's."""

    def __init__(self, job_id: UUID, state: str, key: str) -> None:
        super().__init__(f"job {job_id} has the key {key!r} already and is {state}")
        self.job_id = job_id
        self.state = state


class WrongState(EngineError):
    """The job exists, but its state does not allow what was asked."""

    def __init__(self, job_id: UUID, state: str, wanted: str) -> None:
        super().__init__(f"job {job_id} is {state}; {wanted}")
        self.job_id = job_id
        self.state = state
