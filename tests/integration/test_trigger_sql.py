"""Each named statement of triggers and of what is cleaned: it prepares with the types of its header, and it is used."""

from __future__ import annotations

import re
from pathlib import Path

import asyncpg
import pytest

from gateway.services.orchestration.triggers.schedules import SQL as TRIGGERS
from gateway.services.orchestration.upkeep import SQL as ORCHESTRATION

HOME = Path(__file__).parents[2] / "gateway" / "services" / "orchestration"
ALIASES = {"bool": "boolean", "int2": "smallint", "int4": "integer", "int8": "bigint", "float8": "double precision"}
STATEMENTS = [(TRIGGERS, name) for name in sorted(TRIGGERS)]
STATEMENTS += [(ORCHESTRATION, name) for name in sorted(ORCHESTRATION) if name.startswith("clean_")]


@pytest.mark.parametrize(("statements", "name"), STATEMENTS, ids=[name for _, name in STATEMENTS])
async def test_each_statement_prepares(pool: asyncpg.Pool[asyncpg.Record], statements: object, name: str) -> None:
    sql = TRIGGERS if statements is TRIGGERS else ORCHESTRATION
    async with pool.acquire() as connection:
        parameters = (await connection.prepare(sql[name])).get_parameters()
    bases = [parameter.name.removesuffix("[]") for parameter in parameters]
    arrays = ["[]" if parameter.name.endswith("[]") else "" for parameter in parameters]
    prepared = [ALIASES.get(base, base) + array for base, array in zip(bases, arrays, strict=True)]
    assert prepared == [parameter.type for parameter in sql.describe(name).params]


def test_each_statement_is_used() -> None:
    code = "".join(path.read_text("utf-8") for path in (HOME / "triggers").glob("*.py"))
    assert set(re.findall(r'SQL\["(\w+)"\]', code)) == set(TRIGGERS)
