"""Waiting for something that happens elsewhere."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")


@overload
async def eventually(check: Callable[[], Awaitable[T]], timeout: float = ..., message: str = ...) -> T: ...
@overload
async def eventually(check: Callable[[], T], timeout: float = ..., message: str = ...) -> T: ...
async def eventually(check: Callable[[], Any], timeout: float = 10.0, message: str = "") -> Any:
    """Call ``check`` until it returns something true, and return that. ``timeout`` in seconds.

    An ``AssertionError`` of ``check`` counts as "not yet", and is the cause of the failure when time is up.
    """
    deadline = time.monotonic() + timeout
    pause = 0.002
    while True:
        last: AssertionError | None = None
        value = None
        try:
            answer = check()
            value = await answer if inspect.isawaitable(answer) else answer
            if value:
                return value
        except AssertionError as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {message or 'no true answer'} (last: {value!r})") from last
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, 0.05)
