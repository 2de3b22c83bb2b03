"""The contract of every long-lived thing."""

from __future__ import annotations

from typing import Protocol


class StartError(Exception):
    """This replica can never start as it is set up. The message says what was seen and what to do."""


class Component(Protocol):
    """Something that ``runtime`` starts and stops in order.

    ``start`` returns when it is usable, and may raise ``StartError``. ``stop`` returns when it has stopped; it is safe
    to call twice, and on something never started.
    """

    name: str

    async def start(self) -> None: ...

    async def stop(self) -> None: ...
