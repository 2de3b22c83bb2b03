"""What is done to the running processes, one operation at a time: scale, reload, restart, replace what grew too big."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import structlog

from gateway.supervise.config import INSTANCES_MAX, ConfigError
from gateway.supervise.growth import Growth
from gateway.supervise.pool import NotReplaced, Place, Plan, Pool
from gateway.supervise.process import Process, State

log = structlog.get_logger(__name__)

_AFTER_FAILURE_S = 60.0

Tell = Callable[[str], None]


class Refused(Exception):
    """Not now: another operation runs, or the supervisor stops."""


class OperationFailed(Exception):
    """It was not done, or not in full; the message says what is true now."""


class Operations:
    """``read_plan`` reads the configuration again and raises ``ConfigError``."""

    def __init__(self, pool: Pool, read_plan: Callable[[], Plan]) -> None:
        self._pool = pool
        self._read_plan = read_plan
        self.running: str | None = None
        self._too_low_told: int | None = None
        self._memory_not_before = 0.0

    async def scale(self, wanted: str, leave: Sequence[int], tell: Tell) -> int:
        """``wanted``: a number, or a change as ``+1``. ``leave``: which processes shall go first, by number; else the
        least busy. Returns when the new ones are ready and those to go have left the socket."""
        async with self._alone(f"scale {wanted}"):
            before = len(self._pool.places)
            number = _number(wanted, before)
            if number > before:
                await self._grow(number - before, tell)
            for place in self._leaving(before - number, leave):
                told = f"process {place.process.number} drains" if place.process else "one that did not run is gone"
                self._pool.remove(place)
                tell(told)
            return number

    async def reload(self, tell: Tell) -> int:
        """Read the configuration again and replace all, one after the other: never fewer than now."""
        async with self._alone("reload"):
            try:
                self._pool.plan = self._read_plan()
            except ConfigError as error:
                raise OperationFailed(f"nothing was reloaded: {error}") from error
            return await self._replace_all("reload", tell, None)

    async def restart(self, pause_s: float | None, tell: Tell) -> int:
        """As ``reload``, but each old process has ended and ``pause_s`` have passed before the next one's turn."""
        pause_s = self._pool.plan.ecosystem.restart_pause_s if pause_s is None else pause_s
        async with self._alone("restart"):
            return await self._replace_all("restart", tell, pause_s)

    async def replace_too_big(self) -> None:
        """Replace the biggest process above the mark, if there is one and nothing else is done."""
        eco = self._pool.plan.ecosystem
        mark = eco.memory_mark
        if mark is None or self.running or self._pool.stopping or time.monotonic() < self._memory_not_before:
            return
        place = self._too_big(mark)
        if place is None or place.process is None:
            return
        old = place.process
        async with self._alone("memory"):
            log.warning("memory_mark_reached", number=old.number, rss_bytes=old.rss_bytes, mark_bytes=mark)
            try:
                await self._pool.replace(place, "memory")
                place.growth.replaced(old, eco)
            except NotReplaced as error:
                self._memory_not_before = time.monotonic() + _AFTER_FAILURE_S
                log.error("not_replaced", reason=str(error), next_try_in_s=_AFTER_FAILURE_S)

    def _too_big(self, mark: int) -> Place | None:
        found: list[tuple[int, Place]] = []
        for place in self._pool.places:
            process = place.process
            if process is None or process.state is not State.READY:
                continue
            place.growth.see(process, mark)
            if (process.fresh_bytes or 0) > mark:
                self._tell_too_low(
                    process.fresh_bytes, mark, "a fresh process is above it already, so none is replaced"
                )
                continue
            if place.growth.is_due(process, mark, self._pool.plan.ecosystem) and not place.still_leaving:
                found.append((process.rss_bytes, place))
                if place.growth.again:
                    why = (
                        "each process is soon above it, so replacing gains nothing; the next ones wait longer each time"
                    )
                    self._tell_too_low(process.rss_bytes, mark, why)
        return max(found, key=lambda one: one[0])[1] if found else None

    def _tell_too_low(self, size: int | None, mark: int, why: str) -> None:
        """Another process in its place would be as big. Said once of each mark."""
        if self._too_low_told != mark:
            self._too_low_told = mark
            fix = f"raise max_memory_restart above {(size or 0) // 1024**2 + 1}M: {why}"
            log.error("memory_mark_too_low", rss_bytes=size, mark_bytes=mark, fix=fix)

    async def _grow(self, number: int, tell: Tell) -> None:
        limit_s = self._pool.plan.ecosystem.listen_timeout_s
        places: list[Place] = []
        for _ in range(number):
            self._demand_going_on()
            places.append(await self._pool.add())
        for place in places:
            process = place.process
            if process is not None and await self._became_ready(process, limit_s):
                tell(f"process {process.number} is ready")
            else:
                tell(f"a process was not ready within {limit_s:g} s: {place.reason or 'it goes on trying'}")

    async def _became_ready(self, process: Process, limit_s: float) -> bool:
        deadline = time.monotonic() + limit_s
        while process.state is State.STARTING and process.alive and time.monotonic() < deadline:
            await asyncio.wait([process.exit_code], timeout=0.05)
        return process.state is State.READY and process.alive

    def _leaving(self, number: int, named: Sequence[int]) -> list[Place]:
        def rank(place: Place) -> tuple[bool, bool, int, float]:
            process = place.process
            if process is None:
                return (False, False, 0, 0.0)
            return (True, process.number not in named, process.busy or 0, process.uptime_s)

        return sorted(self._pool.places, key=rank)[: max(0, number)]

    async def _replace_all(self, why: str, tell: Tell, pause_s: float | None) -> int:
        done = 0
        for place in tuple(self._pool.places):
            if place not in self._pool.places:
                continue
            if done and pause_s:
                await self._pause(pause_s)
            self._demand_going_on()
            old = place.process
            try:
                new = await self._pool.replace(place, why)
            except NotReplaced as error:
                number = len(self._pool.places)
                raise OperationFailed(f"{done} of {number} replaced, then {error}. The old ones go on.") from error
            done += 1
            # Those before were of other code, or another configuration.
            place.crashes, place.growth = self._pool.no_crashes(), Growth()
            tell(f"process {new.number} is ready" + (f", process {old.number} drains" if old else ""))
            if pause_s is not None and old is not None:
                await asyncio.wait([old.exit_code])
        return done

    async def _pause(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._demand_going_on()
            await asyncio.sleep(min(left, 0.5))

    def _demand_going_on(self) -> None:
        """The shared socket is closed when the supervisor stops: nothing can be started on it. Raises ``Refused``."""
        if self._pool.stopping:
            raise Refused("the supervisor stops")

    @asynccontextmanager
    async def _alone(self, name: str) -> AsyncIterator[None]:
        self._demand_going_on()
        if self.running is not None:
            raise Refused(f"{self.running} is under way; try again when it is done")
        self.running = name
        log.info("operation", name=name)
        try:
            yield
        finally:
            self.running = None


def _number(wanted: str, before: int) -> int:
    try:
        number = before + int(wanted) if wanted.startswith(("+", "-")) else int(wanted)
    except ValueError:
        raise OperationFailed(f'"{wanted}" is no number; write 4, +1 or -1') from None
    if not 1 <= number <= INSTANCES_MAX:
        raise OperationFailed(f"{number} is not from 1 to {INSTANCES_MAX}; to end all: gateway supervise stop")
    return number
