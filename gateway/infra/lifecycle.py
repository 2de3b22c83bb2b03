"""The contract of every long-lived thing."""

from __future__ import annotations

from typing import Protocol


class Component(Protocol):
    """Something that ``runtime`` starts and stops in order.

    ``start`` returns when it is usable. ``stop`` returns when it has stopped; it is safe to call twice, and on
    something never started.
    """

    name: str

    async def start(self) -> None: ...

    async def stop(self) -> None: ...
