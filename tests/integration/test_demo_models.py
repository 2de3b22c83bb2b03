"""Without a key: a labelled demonstration in development, an error elsewhere; no library before the first call."""

from __future__ import annotations

import asyncio
import sys

import asyncpg
import pytest

from gateway.infra.metrics import Metrics
from gateway.llm.demo import LABEL, DemoModels
from gateway.llm.model import ModelFailed, ModelRefusedCall
from gateway.llm.schema import read_answer
from gateway.runtime import DevOptions, Runtime
from tests.support.models import KEY, SCHEMA, ask, asking
from tests.support.web import settings_for

BOOT = """
import asyncio, sys
from gateway.app import create_app
from gateway.runtime import Runtime
from gateway.settings import Settings

async def main():
    settings = {"database_url": sys.argv[1], "jwt_secret": "x" * 32, "smtp_host": "127.0.0.1", "openai_api_key": "sk-x"}
    runtime = await Runtime.open(Settings.model_validate(settings))
    app = create_app(runtime)
    async with app.lifespan():
        await runtime.booted()
        print(runtime.not_ready, sorted({"openai", "httpx2"} & set(sys.modules)))

asyncio.run(main())
"""


async def test_the_demonstration_says_what_it_is_and_fits_the_schema(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    metrics = Metrics()
    async with asking(pool, metrics=metrics, demo=True) as models:
        came: list[str] = []
        answer = await models.complete(ask(schema=SCHEMA), came.append)
        again = await models.complete(ask(schema=SCHEMA))
        plain = await models.complete(ask(), came.append)
    assert answer.demo
    assert plain.demo
    assert answer.text.startswith(LABEL)
    assert plain.text.startswith(LABEL)
    assert "".join(came) == answer.text + plain.text
    assert len(came) > 10
    assert answer.parsed is not None
    assert answer.parsed == again.parsed
    assert answer.parsed["summary"].startswith(LABEL)
    assert read_answer(answer.text.partition("\n")[2], SCHEMA) == answer.parsed
    assert (answer.provider, answer.spent.cost_micros, answer.spent.input_tokens) == ("demo", 0, 0)
    assert b'gateway_model_calls_total{outcome="answered",provider="demo"} 3.0' in metrics.text()


async def test_a_key_ends_the_demonstration(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    async with asking(pool, demo=True, anthropic_api_key=KEY) as models:
        assert not isinstance(models, DemoModels)
        with pytest.raises(ModelRefusedCall) as refused:
            await models.complete(ask())
    assert refused.value.kind == "not_configured"


async def test_the_demonstration_has_a_deadline_too() -> None:
    with pytest.raises(ModelFailed):
        await DemoModels(Metrics(), gap_s=1.0).complete(ask(deadline_s=0.05))


async def test_only_gateway_dev_demonstrates() -> None:
    for dev, demonstrates in (
        (None, False),
        (DevOptions(token="dev"), False),
        (DevOptions(demo_models=True), True),
    ):
        runtime = await Runtime.open(settings_for("postgresql://x@127.0.0.1:9/x", gateway_env="development"), dev)
        assert isinstance(runtime.platform.models, DemoModels) is demonstrates
        await runtime.stop()


async def test_the_client_library_is_not_loaded_before_the_first_call(database_url: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", BOOT, database_url, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, error = await process.communicate()
    assert out.decode().splitlines()[-1:] == ["None []"], out.decode() + error.decode()
