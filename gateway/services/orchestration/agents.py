"""Agents as data: what comes with the gateway, what a team's files add, and what rows change of both."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias
from uuid import UUID

import msgspec

Source: TypeAlias = Literal["built-in", "file", "row"]


class Agent(msgspec.Struct, frozen=True, kw_only=True):
    """One agent as it runs. ``tools`` allow context and actions (``agent_schema.TOOLS``), ``model`` is a name of the
    price table. ``output_schema`` is the whole JSON Schema of its answer, ``source`` where its definition comes from.
    """

    slug: str
    name: str
    description: str
    prompt: str
    tools: tuple[str, ...]
    model: str
    output_schema: dict[str, Any]
    max_output_tokens: int
    timeout_s: float
    enabled: bool
    source: Source


class Agents:
    """What is there, by slug: a row before a file before what comes with the gateway."""

    async def get(self, slug: str) -> Agent | None:
        """Also one that is switched off (``enabled``)."""
        raise NotImplementedError

    async def enabled_for(self, project_id: UUID) -> list[Agent]:
        """By slug: those that are enabled and that the project did not leave out."""
        raise NotImplementedError
