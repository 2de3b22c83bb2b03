"""What a process inherits from its supervisor, and how it asks it for the metrics of all processes.

The *public* listener is one socket that all processes accept from. The *own* listener is this process's alone, on a
port of the loopback that the kernel chose: there the supervisor asks for readiness and metrics. The *lifeline* is a
pipe whose other end the supervisor holds: its end of file means "leave the public port and drain", also when the
supervisor was killed. The *heartbeat* is a pipe into which the process writes while its event loop turns.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import select
import socket
import sys
from dataclasses import dataclass
from typing import Any

import msgspec

from gateway.supervise.messages import LINE_MAX_BYTES, Line, Request

METRICS_TIMEOUT_S = 5.0
READY_TIMEOUT_S = 2.0  # probes of balancers seldom wait longer
BEAT_S = 1.0
_READER_S = 1.0  # below the shortest lease


class Inheritance(msgspec.Struct, frozen=True, kw_only=True):
    """File descriptors, and where the supervisor listens. ``at_once``: accept from the start, not from readiness on,
    because no other process would answer meanwhile. ``heartbeat`` None: of a supervisor that wants none."""

    number: int
    public: int
    own: int
    lifeline: int
    control: str
    at_once: bool
    heartbeat: int | None = None


class _UnreadPipe(io.FileIO):
    """What nobody reads is lost: no task may fail of a line in the log, nor may the event loop wait for a supervisor
    that is frozen, and all processes with it. One that is only busy has ``_READER_S``, once until it reads again."""

    def __init__(self, number: int) -> None:
        super().__init__(number, "wb", closefd=False)
        os.set_blocking(number, False)
        self._lost = 0

    def write(self, data: Any, /) -> int:
        try:
            taken = self._write(data)
        except BrokenPipeError:
            return len(data)
        if taken is None:
            self._lost += 1
            return len(data)
        return taken

    def _write(self, data: Any) -> int | None:
        """None: the pipe is full."""
        if self._lost:
            if not self._has_room(0):  # a few bytes may fit all the same
                return None
            told = f"\n{self._lost} writes to the log were lost: the supervisor did not read them\n"
            super().write(told.encode())
            self._lost = 0
        taken: int | None = super().write(data)
        if taken is None and self._has_room(_READER_S):
            taken = super().write(data)
        return taken

    def _has_room(self, timeout_s: float) -> bool:
        return bool(select.select([], [self], [], timeout_s)[1])


def outlive_reader() -> None:
    """Standard output and error go to the supervisor: they must neither break when it is killed, nor wait when it is
    frozen."""
    sys.stdout, sys.stderr = (
        io.TextIOWrapper(io.BufferedWriter(_UnreadPipe(number)), "utf-8", line_buffering=True) for number in (1, 2)
    )


class SupervisorAway(Exception):
    """The supervisor did not answer in time, or not in its words."""


@dataclass(frozen=True, slots=True)
class Inherited:
    """``Inheritance`` with its descriptors opened."""

    number: int
    public: socket.socket
    own: socket.socket
    lifeline: int
    control: str
    at_once: bool
    heartbeat: int | None

    @classmethod
    def of(cls, text: str) -> Inherited:
        """``text``: JSON of ``Inheritance``. Raises ValueError (no such JSON) and OSError (no such descriptors)."""
        try:
            given = msgspec.json.decode(text, type=Inheritance)
        except msgspec.DecodeError as error:
            raise ValueError(f"not what a supervisor gives: {error}") from error
        os.set_blocking(given.lifeline, False)
        if given.heartbeat is not None:
            os.set_blocking(given.heartbeat, False)
        return cls(
            number=given.number,
            public=socket.socket(fileno=given.public),
            own=socket.socket(fileno=given.own),
            lifeline=given.lifeline,
            control=given.control,
            at_once=given.at_once,
            heartbeat=given.heartbeat,
        )

    @property
    def own_port(self) -> int:
        return int(self.own.getsockname()[1])

    async def cut_off(self) -> None:
        """Returns when the lifeline has ended."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self.lifeline, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(self.lifeline)

    def beat(self) -> None:
        """Give a sign of life each ``BEAT_S`` seconds from now on, until the running loop ends."""
        if self.heartbeat is None:
            return
        try:
            os.write(self.heartbeat, b".")
        except BlockingIOError:
            pass  # the pipe is full: the supervisor does not read, and may again
        except BrokenPipeError:
            return  # it was killed
        asyncio.get_running_loop().call_later(BEAT_S, self.beat)

    async def metrics_of_all(self) -> bytes:
        """All processes' metrics in one exposition. Raises ``SupervisorAway``."""
        answer = await self._ask(Request(do="metrics"), METRICS_TIMEOUT_S)
        if not isinstance(answer.done, str):
            raise SupervisorAway(answer.error or json.dumps(answer.done))
        return answer.done.encode()

    async def another_is_ready(self) -> bool:
        """Is any process behind the shared port ready now? Raises ``SupervisorAway``."""
        answer = await self._ask(Request(do="ready"), READY_TIMEOUT_S)
        if not isinstance(answer.done, bool):
            raise SupervisorAway(answer.error or json.dumps(answer.done))
        return answer.done

    async def _ask(self, request: Request, timeout_s: float) -> Line:
        try:
            async with asyncio.timeout(timeout_s):
                reader, writer = await asyncio.open_unix_connection(self.control, limit=LINE_MAX_BYTES)
                try:
                    writer.write(request.encoded())
                    return Line.decoded(await reader.readline())
                finally:
                    writer.close()
        except (OSError, TimeoutError, ValueError) as error:
            raise SupervisorAway(f"the supervisor does not answer: {error or type(error).__name__}") from error
