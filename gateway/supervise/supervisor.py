"""The supervisor's life: start all, answer the control socket, look at memory, end with the last process."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import httpx
import msgspec
import structlog

from gateway.supervise import control
from gateway.supervise.logs import LogFiles
from gateway.supervise.messages import Request, Status
from gateway.supervise.notify import Notifier
from gateway.supervise.operations import OperationFailed, Operations, Refused
from gateway.supervise.pool import Plan, Pool
from gateway.supervise.pulse import Watch
from gateway.supervise.scrapes import Scrapes

log = structlog.get_logger(__name__)

LOOK_S = 1.0


@dataclass(frozen=True, slots=True)
class Ground:
    """What stands before the first process does: the shared socket, its address in words, the log files."""

    public: socket.socket
    address: str
    logs: LogFiles
    notifier: Notifier


class Supervisor:
    def __init__(self, plan: Plan, read_plan: Callable[[], Plan], ground: Ground) -> None:
        client = httpx.AsyncClient(trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))
        self._ground = ground
        self._started_at = time.monotonic()
        self._pool = Pool(plan, ground.public, ground.logs, client)
        self._operations = Operations(self._pool, read_plan)
        self._scrapes = Scrapes(self._pool)
        self._watch = Watch(self._pool)
        self._told_to_stop = asyncio.Event()

    async def run(self) -> int:
        """Until a signal, ``stop``, or until every process was given up. Answers the exit code: 1 when all processes
        were given up, or one had to be killed at the end."""
        self._signals()
        path = self._pool.plan.ecosystem.socket
        server = await control.listen(path, self._answer)
        looking = asyncio.create_task(self._look(), name="look")
        try:
            for _ in range(self._pool.plan.ecosystem.instances):
                await self._pool.add()
            await self._until_over()
            self._ground.notifier.tell(STOPPING=1)
            log.info("stopping", processes=len(self._pool.processes))
            await self._pool.stop()
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
            server.close()
            path.unlink(missing_ok=True)
            await self._pool.client.aclose()
        code = 1 if self._pool.hopeless.is_set() or self._pool.killed else 0
        log.info("ended", exit_code=code)
        return code

    async def _until_over(self) -> None:
        over = [asyncio.create_task(event.wait()) for event in (self._told_to_stop, self._pool.hopeless)]
        await asyncio.wait(over, return_when=asyncio.FIRST_COMPLETED)
        for task in over:
            task.cancel()
        # Who accepts from now on is up to the processes: none of them, once all have ended.
        self._ground.public.close()

    def _signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop_signal, number)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._pool.background(self._reload(), "reload"))
        loop.add_signal_handler(signal.SIGCHLD, self._reap)

    def _stop_signal(self, number: signal.Signals) -> None:
        log.info("signal", name=number.name, again=self._told_to_stop.is_set())
        if self._told_to_stop.is_set():
            self._pool.hurry()
        self._told_to_stop.set()

    def _reap(self) -> None:
        """Ours first; then, as process 1 of a container, whatever lost its parent."""
        self._pool.reap()
        reap_others({process.pid for process in self._pool.processes})

    async def _reload(self) -> None:
        try:
            await self._operations.reload(lambda text: log.info("reload", told=text))
        except (Refused, OperationFailed) as error:
            log.error("not_reloaded", reason=str(error))

    async def _look(self) -> None:
        notifier, told_ready = self._ground.notifier, False
        while True:
            for process in self._pool.processes:
                process.look()
            self._watch.look()
            self._pool.background(self._operations.replace_too_big(), "memory")
            ready, wanted = len(self._pool.ready), len(self._pool.places)
            notifier.tell(WATCHDOG=1, STATUS=f"{ready} of {wanted} processes ready at {self._ground.address}")
            if not told_ready and ready and ready >= wanted:
                told_ready = True
                notifier.tell(READY=1)
            await asyncio.sleep(LOOK_S)

    async def _answer(self, request: Request, tell: control.Tell) -> Any:
        match request.do:
            case "status":
                return msgspec.to_builtins(await self._status())
            case "metrics" | "ready":
                return await (self._scrapes.metrics() if request.do == "metrics" else self._scrapes.any_ready())
            case "scale":
                await self._scrapes.look()
                return await self._operations.scale(request.to or "", request.leave, tell)
            case "reload":
                return await self._operations.reload(tell)
            case "restart":
                return await self._operations.restart(request.pause_s, tell)
            case "stop":
                self._told_to_stop.set()
                return len(self._pool.processes)

    async def _status(self) -> Status:
        processes, waiting = await self._scrapes.processes()
        logs = self._ground.logs
        return Status(
            name=self._pool.plan.ecosystem.name,
            pid=os.getpid(),
            address=self._ground.address,
            instances=len(self._pool.places),
            uptime_s=round(time.monotonic() - self._started_at, 1),
            processes=processes,
            waiting=waiting,
            busy_with=self._operations.running,
            stopping=self._pool.stopping,
            logs_lost=logs.lost,
            logs_problem=logs.problem,
        )


def reap_others(ours: AbstractSet[int]) -> None:
    """Wait for children that ended and are not among ``ours``, whose exit codes somebody else takes."""
    while (ended := _ended_child()) is not None and ended not in ours:
        os.waitpid(ended, 0)


def _ended_child() -> int | None:
    """The pid of a child that ended and was not waited for; it stays so."""
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return None if found is None else found.si_pid
