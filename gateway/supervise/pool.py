"""The processes: how many there are to be, what happens when one ends, and how one takes another's place."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from itertools import count

import httpx
import msgspec
import structlog

from gateway.supervise.config import Ecosystem
from gateway.supervise.growth import Growth
from gateway.supervise.logs import LogFiles
from gateway.supervise.process import Ended, Process, Program, State
from gateway.supervise.restarts import Restarts

log = structlog.get_logger(__name__)


class Plan(msgspec.Struct, frozen=True):
    """What the configuration says now; a reload reads it again."""

    ecosystem: Ecosystem
    program: Program


class NotReplaced(Exception):
    """The new process did not become ready; the old ones go on."""


@dataclass(eq=False)
class Place:
    """One of the wanted processes. ``process`` None: it waits for its next start (``reason``), or was given up;
    ``before``: what ``process`` replaced."""

    crashes: Restarts
    growth: Growth = field(default_factory=Growth)
    process: Process | None = None
    before: Process | None = None
    restarts: int = 0
    replacing: bool = False
    given_up: bool = False
    reason: str | None = None
    next_start: asyncio.TimerHandle | None = field(default=None, repr=False)

    @property
    def still_leaving(self) -> bool:
        """A further one would be the third process of this place in memory."""
        return self.before is not None and self.before.alive

    def settle(self, process: Process) -> None:
        self.process, self.given_up, self.reason = process, False, None
        if self.next_start is not None:
            self.next_start.cancel()
            self.next_start = None


class Pool:
    """``public``: the listening socket that all share. ``processes``: all that live, also those that drain."""

    def __init__(self, plan: Plan, public: socket.socket, logs: LogFiles, client: httpx.AsyncClient) -> None:
        self.plan = plan
        self.client = client
        self.places: list[Place] = []
        self.processes: list[Process] = []
        self.stopping = False
        self.started = 0
        self.frozen = 0  # that were ended for their silence
        self.killed = 0  # while all were to end
        self.hopeless = asyncio.Event()  # every place was given up
        self._public = public
        self._logs = logs
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def ready(self) -> list[Process]:
        return [process for process in self.processes if process.state is State.READY]

    async def add(self) -> Place:
        place = Place(self.no_crashes())
        self.places.append(place)
        await self._start(place)
        return place

    def remove(self, place: Place) -> None:
        """Its process, if there is one, drains."""
        self.places.remove(place)
        if place.next_start is not None:
            place.next_start.cancel()
        if place.process is not None:
            self.retire(place.process)

    async def replace(self, place: Place, why: str) -> Process:
        """Start a process and, once it is ready, let the place's old one drain. Raises ``NotReplaced``."""
        limit_s = self.plan.ecosystem.listen_timeout_s
        place.replacing = True
        new: Process | None = None
        try:
            new = await self._spawn(place)
            async with asyncio.timeout(limit_s):
                await new.until_ready(self.client)
        except TimeoutError:  # first: it is an OSError too
            raise NotReplaced(f"the new process was not ready within {limit_s:g} s (listen_timeout)") from None
        except (Ended, OSError) as error:
            raise NotReplaced(f"the new process did not become ready: {error}") from error
        else:
            place.before = old = place.process
            place.settle(new)
            place.restarts += 1
            log.info("process_replaced", why=why, number=new.number, old=old.number if old else None)
            if old is not None:
                self.retire(old)
            return new
        finally:
            place.replacing = False
            if place.process is not new and new is not None:
                self.retire(new)
            if place.process is None and place in self.places and not place.given_up:
                self._start_later(place, self.plan.ecosystem.backoff_s)

    def retire(self, process: Process) -> None:
        """Let it leave the socket, finish its jobs and end."""
        if process.state is not State.DRAINING and process.alive:
            log.info("process_drains", number=process.number, pid=process.pid)
            process.retire()
            self._kill_if_it_stays(process, self.plan.program.kill_after_s)

    def abandon(self, process: Process, reason: str) -> None:
        """It does nothing any more, for ``reason``: end it, and start another in its place, as after a crash. The port
        is the others' at once; should it wake up, it has ``watchdog_grace`` to hand back its jobs."""
        process.abandoned = True
        process.retire()
        process.signal(signal.SIGTERM)
        self._kill_if_it_stays(process, self.plan.ecosystem.watchdog_grace_s)
        self.frozen += 1
        place = next((one for one in self.places if one.process is process), None)
        if place is None or self.stopping:
            return
        place.process = None
        if not place.replacing:
            self._crashed(place, process.uptime_s, reason)

    async def stop(self) -> None:
        """All drain; HTTP is served until the last one has ended."""
        self.stopping = True
        for place in self.places:
            if place.next_start is not None:
                place.next_start.cancel()
        for process in self.processes:
            if process.state is not State.DRAINING:
                process.state = State.DRAINING
                process.signal(signal.SIGTERM)
                self._kill_if_it_stays(process, self.plan.program.kill_after_s)
        while self.processes:
            await asyncio.wait([process.exit_code for process in self.processes])
            await asyncio.gather(*self._tasks)

    def hurry(self) -> None:
        """Active jobs are handed back at once."""
        for process in self.processes:
            process.signal(signal.SIGTERM)

    def reap(self) -> None:
        """Some process ended."""
        for process in tuple(self.processes):
            process.popen.poll()
            process.reaped()

    def no_crashes(self) -> Restarts:
        """A history that begins now, judged as the configuration says now."""
        eco = self.plan.ecosystem
        return Restarts(
            first_s=eco.backoff_s,
            min_uptime_s=eco.min_uptime_s,
            limit=eco.max_restarts,
            window_s=eco.restart_window_s,
        )

    async def _start(self, place: Place) -> None:
        try:
            place.settle(await self._spawn(place))
        except OSError as error:
            self._crashed(place, 0.0, f"cannot be started: {error}")

    async def _spawn(self, place: Place) -> Process:
        taken = {process.number for process in self.processes}
        number = next(number for number in count(1) if number not in taken)
        process = Process.start(number, self.plan.program, self._public, at_once=not self.ready)
        self.processes.append(process)
        self.started += 1
        if self.stopping:
            process.retire()
        log.info("process_started", number=number, pid=process.pid, url=process.url)
        await process.take_output(self._logs)
        self.background(self._watch(place, process), f"process {number}")
        self.background(self._await_readiness(process), f"readiness of {number}")
        return process

    async def _await_readiness(self, process: Process) -> None:
        try:
            await process.until_ready(self.client)
        except Ended:
            return  # _watch sees it too
        log.info("process_ready", number=process.number, after_s=round(process.uptime_s, 1))

    async def _watch(self, place: Place, process: Process) -> None:
        code = await process.exit_code
        self.processes.remove(process)
        expected = process.state is State.DRAINING
        told = log.info if expected else log.error
        told("process_ended", number=process.number, pid=process.pid, exit_code=code, expected=expected)
        if place.process is not process:
            return
        place.process = None
        if not expected and not place.replacing:
            self._crashed(place, process.uptime_s, f"ended with {code}: {process.last_words}")

    def _crashed(self, place: Place, uptime_s: float, reason: str) -> None:
        place.reason = reason
        delay_s = place.crashes.crashed(time.monotonic(), uptime_s)
        if delay_s is not None:
            self._start_later(place, delay_s)
            return
        eco = self.plan.ecosystem
        place.given_up = True
        place.reason = f"{place.crashes.within_window} crashes within {eco.restart_window_s:g} s; the last: {reason}"
        log.error("given_up", reason=place.reason, fix="mend the cause, then: gateway supervise reload")
        if all(one.given_up for one in self.places):
            self.hopeless.set()

    def _start_later(self, place: Place, delay_s: float) -> None:
        log.warning("process_starts_again", in_s=round(delay_s, 3), restarts=place.restarts + 1)
        loop = asyncio.get_running_loop()
        place.next_start = loop.call_later(delay_s, lambda: self.background(self._start_again(place), "start again"))

    async def _start_again(self, place: Place) -> None:
        if place in self.places and place.process is None and not place.replacing and not self.stopping:
            place.restarts += 1
            await self._start(place)

    def _kill_if_it_stays(self, process: Process, limit_s: float) -> None:
        def kill() -> None:
            if process.alive:
                self.killed += self.stopping
                why = f"no end after {limit_s:g} s"
                log.error("process_killed", number=process.number, pid=process.pid, reason=why)
                process.signal(signal.SIGKILL)

        timer = asyncio.get_running_loop().call_later(limit_s, kill)
        process.exit_code.add_done_callback(lambda _: timer.cancel())

    def background(self, work: Coroutine[object, object, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task_failed", task=task.get_name(), exc_info=error)
