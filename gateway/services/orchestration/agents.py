"""Agents as data: what comes with the gateway, what a team's files add, and what rows change of both."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias
from uuid import UUID

import asyncpg
import msgspec

from gateway.infra.sqlfiles import load_sql
from gateway.llm import default_model
from gateway.llm.providers import price_names
from gateway.llm.store import LaneStore
from gateway.problem import Problem
from gateway.services.orchestration.agent_files import AgentBody, read_agents
from gateway.services.orchestration.agent_schema import Tool, output_schema
from gateway.settings import Settings

SQL = load_sql("gateway.services.orchestration")

BUILT_IN: Final = Path(__file__).with_name("agents")
RULES: Final = Path(__file__).with_name("agent_rules.md")
ROWS_MAX: Final = 200  # agents that are rows
_TOOLS: Final = frozenset(Tool)

Source: TypeAlias = Literal["built-in", "file", "row"]
Row: TypeAlias = asyncpg.Record


class Agent(msgspec.Struct, frozen=True, kw_only=True):
    """One agent as it runs. ``prompt`` ends with the rules that hold for all. ``tools`` allow context and actions
    (``agent_schema.Tool``), ``model`` is a name of the price table. ``output_schema`` is the whole JSON Schema of its
    answer, ``source`` where its definition comes from."""

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


class Defined(msgspec.Struct, frozen=True, kw_only=True):
    """A definition, and where it comes from. ``restorable``: a row stands before a file of the same slug."""

    slug: str
    body: AgentBody
    source: Source
    restorable: bool = False
    updated_by: str | None = None
    updated_at: datetime | None = None


class Catalog(msgspec.Struct, frozen=True):
    """What the files of this process define; read once, at start."""

    files: Mapping[str, Defined]
    rules: str
    default_model: str
    any_model: bool

    @classmethod
    def read(cls, settings: Settings) -> Catalog:
        """Raises ``AgentFilesWrong``."""
        files = {slug: Defined(slug=slug, body=body, source="built-in") for slug, body in read_agents(BUILT_IN).items()}
        if settings.agents_dir is not None:
            own = read_agents(settings.agents_dir)
            files |= {slug: Defined(slug=slug, body=body, source="file") for slug, body in own.items()}
        rules = RULES.read_text("utf-8").strip()
        return cls(files, rules, default_model(settings), settings.openai_base_url is not None)

    def agent(self, defined: Defined) -> Agent:
        body = defined.body
        return Agent(
            slug=defined.slug,
            name=body.name,
            description=body.description,
            prompt=f"{body.prompt.strip()}\n\n{self.rules}",
            tools=tuple(str(tool) for tool in body.tools),
            model=body.model or self.default_model,
            output_schema=output_schema(body.tools, body.output_schema),
            max_output_tokens=body.max_output_tokens,
            timeout_s=float(body.timeout_s),
            enabled=body.enabled,
            source=defined.source,
        )


class Agents:
    """What is there, by slug: a row before a team's file before what comes with the gateway."""

    def __init__(self, pool: asyncpg.Pool[Row], catalog: Catalog) -> None:
        self._pool = pool
        self._catalog = catalog
        self._prices = LaneStore(pool)

    async def get(self, slug: str) -> Agent | None:
        """Also one that is switched off (``enabled``)."""
        defined = await self.defined(slug)
        return None if defined is None else self._catalog.agent(defined)

    async def enabled_for(self, project_id: UUID) -> list[Agent]:
        """By slug: those that are enabled, of those that the project chose; without a choice all of them."""
        chosen = await self.chosen_by(project_id)
        return [
            self._catalog.agent(defined)
            for defined in await self.all_defined()
            if defined.body.enabled and (chosen is None or defined.slug in chosen)
        ]

    async def defined(self, slug: str) -> Defined | None:
        row = await self._pool.fetchrow(SQL["agent_get"], slug)
        return self._catalog.files.get(slug) if row is None else self._of_row(row)

    async def all_defined(self) -> list[Defined]:
        """By slug."""
        rows = {row["slug"]: self._of_row(row) for row in await self._pool.fetch(SQL["agent_list"])}
        return [found for _, found in sorted({**self._catalog.files, **rows}.items())]

    async def put(self, slug: str, body: AgentBody, by: str) -> bool:
        """Write a row; answers whether there was no such agent before. Raises Problem 422 for a model without a price,
        409 if there are too many rows."""
        await self._check_model(body.model)
        values = (body.name, body.description, body.prompt, [str(tool) for tool in body.tools], body.model)
        limits = (body.max_output_tokens, body.timeout_s, body.enabled)
        row = await self._pool.fetchrow(SQL["agent_put"], slug, *values, body.output_schema, *limits, by, ROWS_MAX)
        if row is None:
            raise Problem(409, "too_many_agents", f"There are {ROWS_MAX} agents in the database, which is the most")
        return bool(row["inserted"]) and slug not in self._catalog.files

    async def delete(self, slug: str) -> bool:
        """Whether there was a row. What a file defines is in force again."""
        return await self._pool.fetchval(SQL["agent_delete"], slug) is not None

    async def chosen_by(self, project_id: UUID) -> frozenset[str] | None:
        """None: the project made no choice, and uses all that are enabled."""
        rows = await self._pool.fetch(SQL["agent_choices"], project_id)
        return frozenset(row["slug"] for row in rows if row["enabled"]) if rows else None

    async def choose(self, project_id: UUID, slugs: frozenset[str] | None) -> None:
        """Raises Problem 422 naming a slug that there is not. None takes the choice back."""
        known = {defined.slug for defined in await self.all_defined()}
        unknown = sorted((slugs or frozenset()) - known)
        if unknown:
            message = f"there is no agent {unknown[0][:100]!r}; known: {', '.join(sorted(known))}"
            raise Problem(422, "unknown_agent", message, details=[{"field": "enabled", "message": message}])
        rows = {} if slugs is None else {slug: slug in slugs for slug in sorted(known)}
        await self._pool.execute(SQL["agent_choose"], project_id, list(rows), list(rows.values()))

    def model_of(self, body: AgentBody) -> str:
        return body.model or self._catalog.default_model

    async def _check_model(self, model: str | None) -> None:
        """A server of one's own may serve any model; others only what has a price."""
        if model is None or self._catalog.any_model or await self._prices.price(price_names(model)) is not None:
            return
        message = f"no model {model!r} has a price; known: {', '.join(await self._prices.known_models())}"
        raise Problem(422, "unknown_model", message, details=[{"field": "model", "message": message}])

    def _of_row(self, row: Row) -> Defined:
        body = AgentBody(
            name=row["name"],
            description=row["description"],
            prompt=row["prompt"],
            tools=[Tool(tool) for tool in row["tools"] if tool in _TOOLS],
            model=row["model"],
            output_schema=row["output_schema"],
            max_output_tokens=row["max_output_tokens"],
            timeout_s=row["timeout_s"],
            enabled=row["enabled"],
        )
        return Defined(
            slug=row["slug"],
            body=body,
            source="row",
            restorable=row["slug"] in self._catalog.files,
            updated_by=row["updated_by"],
            updated_at=row["updated_at"],
        )
