"""Hands of the autoscaler: processes on this host that it starts and drains itself, those of a supervisor, or a command
that scales."""

from __future__ import annotations

import asyncio
import shlex
import signal
from asyncio.subprocess import Process
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import structlog

from gateway.supervise import client
from gateway.supervise.messages import Process as Supervised
from gateway.supervise.messages import Request

log = structlog.get_logger(__name__)

_RESTART_AFTER_S = 1.0


class ScaleFailed(Exception):
    """The number could not be changed; it is tried again at the next pass."""


class Fleet(Protocol):
    """The replicas. ``size``: how many were last asked for."""

    @property
    def size(self) -> int: ...

    @property
    def urls(self) -> Sequence[str]:
        """Addresses whose ``/metrics`` is read; those of draining replicas are not among them."""
        ...

    async def look(self) -> None:
        """Called before each pass: somebody else may have changed the number, or a process may be new."""
        ...

    async def scale(self, wanted: int, busy: Mapping[str, float]) -> None:
        """``busy``: active jobs by address, as far as known. Raises ``ScaleFailed``."""
        ...


class Instance:
    """One process and where it answers."""

    def __init__(self, process: Process, port: int) -> None:
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"


class ProcessFleet:
    """Runs ``command`` (with ``{port}`` in it) so many times. Fewer: the least busy get SIGTERM and end when their jobs
    have; nothing is killed. One that ends by itself is started again."""

    def __init__(self, command: Sequence[str], ports: Callable[[], int], environment: Mapping[str, str]) -> None:
        self._command = tuple(command)
        self._ports = ports
        self._environment = dict(environment)
        self._tasks: set[asyncio.Task[None]] = set()
        self.running: list[Instance] = []
        self.draining: list[Instance] = []
        self.exits: list[int] = []

    @property
    def size(self) -> int:
        return len(self.running)

    @property
    def urls(self) -> list[str]:
        return [instance.url for instance in self.running]

    async def look(self) -> None:
        """Its processes are watched as they live."""

    async def scale(self, wanted: int, busy: Mapping[str, float]) -> None:
        while len(self.running) < wanted:
            await self._start()
        for instance in sorted(self.running, key=lambda one: busy.get(one.url, 0.0))[: len(self.running) - wanted]:
            self._drain(instance)

    async def close(self) -> None:
        """Drain all, and wait for their ends."""
        while self._tasks:
            for instance in tuple(self.running):  # also one that just then was started in the place of another
                self._drain(instance)
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)

    async def _start(self) -> None:
        port = self._ports()
        command = [part.replace("{port}", str(port)) for part in self._command]
        try:
            # In a session of its own: Ctrl+C is for us, who drain it.
            process = await asyncio.create_subprocess_exec(*command, env=self._environment, start_new_session=True)
        except OSError as error:
            raise ScaleFailed(f"{command[0]} cannot be started: {error}") from error
        instance = Instance(process, port)
        self.running.append(instance)
        watch = asyncio.create_task(self._watch(instance))
        self._tasks.add(watch)
        watch.add_done_callback(self._tasks.discard)

    def _drain(self, instance: Instance) -> None:
        self.running.remove(instance)
        self.draining.append(instance)
        log.info("replica_drains", url=instance.url, pid=instance.process.pid)
        if instance.process.returncode is None:
            instance.process.send_signal(signal.SIGTERM)

    async def _watch(self, instance: Instance) -> None:
        code = await instance.process.wait()
        self.exits.append(code)
        if instance in self.draining:
            self.draining.remove(instance)
            return
        log.error("replica_ended", url=instance.url, pid=instance.process.pid, exit_code=code)
        await asyncio.sleep(_RESTART_AFTER_S)
        if instance in self.running:
            self.running.remove(instance)
            try:
                await self._start()
            except ScaleFailed as error:  # the next pass tries again
                log.error("replica_not_started", reason=str(error))
        else:
            self.draining.remove(instance)


class CommandFleet:
    """Scales by ``command``, in which ``{replicas}`` stands for the number: ``docker compose up -d --no-recreate
    --scale worker={replicas}``, or a script. ``urls`` reach all replicas, or any of them behind one address."""

    def __init__(self, command: str, urls: Sequence[str], size: int) -> None:
        self._command = shlex.split(command)
        self._urls = tuple(urls)
        self._size = size

    @property
    def size(self) -> int:
        return self._size

    @property
    def urls(self) -> Sequence[str]:
        return self._urls

    async def look(self) -> None:
        """What the command did is not known."""

    async def scale(self, wanted: int, busy: Mapping[str, float]) -> None:
        command = [part.replace("{replicas}", str(wanted)) for part in self._command]
        try:
            process = await asyncio.create_subprocess_exec(*command)
        except OSError as error:
            raise ScaleFailed(f"{command[0]} cannot be started: {error}") from error
        code = await process.wait()
        if code:
            raise ScaleFailed(f"{shlex.join(command)} ended with {code}")
        self._size = wanted


class SupervisedFleet:
    """The processes of a running ``gateway supervise``, which is asked at ``socket``. Fewer: the least busy ones are
    named to it; they leave the shared port and finish their jobs. Call ``look`` first."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._size = 0
        self._ready: list[Supervised] = []

    @property
    def size(self) -> int:
        return self._size

    @property
    def urls(self) -> list[str]:
        return [process.url for process in self._ready if process.url is not None]

    async def look(self) -> None:
        """A supervisor that does not answer leaves everything as it was seen last: nothing is scraped then, and nothing
        is changed."""
        try:
            status = await client.status(self._socket)
        except client.NotRunning as error:
            log.warning("supervisor_away", reason=str(error))
            return
        self._size = status.instances
        self._ready = [process for process in status.processes if process.state == "ready"]

    async def scale(self, wanted: int, busy: Mapping[str, float]) -> None:
        order = sorted(self._ready, key=lambda process: busy.get(process.url or "", 0.0))
        leave = tuple(process.number for process in order[: max(0, self._size - wanted)])
        try:
            await client.ask(self._socket, Request(do="scale", to=str(wanted), leave=leave), _told)
        except (client.NotRunning, client.Declined) as error:
            raise ScaleFailed(str(error)) from error
        self._size = wanted


def _told(text: str) -> None:
    log.info("supervisor", told=text)
