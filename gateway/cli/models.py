"""``gateway models``: language models, their prices and limits, and providers at rest."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import click

from gateway.cli.client import connected, segment
from gateway.cli.command import GatewayGroup, invocation
from gateway.cli.output import ago, print_facts, print_json, print_table
from gateway.cli.times import moment_of

PATH = "/api/v1/admin/models"
MICROS = 1_000_000
PROVIDERS = click.Choice(["openai", "anthropic", "google"])


@click.group(cls=GatewayGroup)
def models() -> None:
    """Language models: what they cost, how often they may be asked, and whose provider rests."""


@models.command("list")
def list_models() -> None:
    """All models that have a price or a limit. Prices are US dollars for a million tokens."""
    with connected() as client:
        found = client.get(PATH)["data"]
    if invocation().json:
        return print_json(found)
    columns = ["model", "provider", "key", "input", "output", "price of", "requests/min", "tokens/min"]
    print_table(columns, [row_of(model) for model in found["models"]])


@models.command("providers")
def list_providers() -> None:
    """Providers, whether they have a key here, and whether they rest."""
    with connected() as client:
        found = client.get(PATH)["data"]["providers"]
    if invocation().json:
        return print_json(found)
    print_table(["provider", "key", "state"], [[one["name"], _key(one), state_of(one)] for one in found])


@models.command("limit")
@click.argument("model")
@click.option("--requests", type=click.IntRange(1), metavar="N", help="A minute, over all replicas.  [no limit]")
@click.option("--tokens", type=click.IntRange(1), metavar="N", help="A minute, over all replicas.  [no limit]")
def limit_model(model: str, requests: int | None, tokens: int | None) -> None:
    """Set a model's limits; what is not named has none."""
    body = {"model": model, "requestsPerMinute": requests, "tokensPerMinute": tokens}
    with connected() as client:
        made = client.put(f"{PATH}/limits", body)["data"]
    if invocation().json:
        return print_json(made)
    facts = {"requests/min": made["requestsPerMinute"], "tokens/min": made["tokensPerMinute"]}
    print_facts({"model": model} | {name: value or "unlimited" for name, value in facts.items()})


@models.command("price")
@click.argument("model")
@click.option("--provider", type=PROVIDERS, required=True, help="Who serves it.")
@click.option("--input", "input_usd", metavar="USD", required=True, help="For a million tokens that it reads.")
@click.option("--output", "output_usd", metavar="USD", required=True, help="For a million tokens that it writes.")
@click.option("--from", "valid_from", metavar="TIME", help="From when on: 2026-12-01T00:00Z.  [now]")
def price_model(model: str, provider: str, input_usd: str, output_usd: str, valid_from: str | None) -> None:
    """Record a price. Earlier ones stay."""
    body = {
        "model": model,
        "provider": provider,
        "inputMicros": micros_of("--input", input_usd),
        "outputMicros": micros_of("--output", output_usd),
        "validFrom": moment_of(valid_from, datetime.now().astimezone()).isoformat() if valid_from else None,
    }
    with connected() as client:
        made = client.post(f"{PATH}/prices", body)["data"]
    if invocation().json:
        return print_json(made)
    print_facts({"model": model, "input": usd_of(made["inputMicros"]), "output": usd_of(made["outputMicros"])})


@models.command("pause")
@click.argument("provider", type=PROVIDERS)
@click.option("--until", metavar="TIME", help="Go on by itself: 15:00, 2026-05-01T15:00+02:00, or 30m.")
@click.option("--reason", help="Shown to everybody who looks at it.")
def pause_provider(provider: str, until: str | None, reason: str | None) -> None:
    """Call a provider no more. Jobs that need it come again later."""
    moment = moment_of(until, datetime.now().astimezone()).isoformat() if until else None
    with connected() as client:
        _print(client.post(f"{PATH}/providers/{segment(provider)}/pause", {"until": moment, "reason": reason})["data"])


@models.command("resume")
@click.argument("provider", type=PROVIDERS)
def resume_provider(provider: str) -> None:
    """Call a provider again, whoever or whatever made it rest."""
    with connected() as client:
        _print(client.post(f"{PATH}/providers/{segment(provider)}/resume")["data"])


def micros_of(option: str, text: str) -> int:
    """``0.25`` dollars as millionths. Raises click.BadParameter."""
    try:
        value = Decimal(text) * MICROS
    except InvalidOperation:
        value = Decimal(-1)
    if not (value.is_finite() and 0 <= value <= 100_000 * MICROS and value == value.to_integral_value()):
        raise click.BadParameter(f'{option}: "{text}" is not a price; examples: 0.25, 15')
    return int(value)


def usd_of(micros: int | None) -> str | None:
    return None if micros is None else f"${micros / MICROS:.2f}" if micros % 10_000 == 0 else f"${micros / MICROS:g}"


def row_of(model: Mapping[str, Any]) -> list[Any]:
    prices = [usd_of(model["inputMicros"]), usd_of(model["outputMicros"]), model["seenOn"]]
    limits = [model["requestsPerMinute"] or "unlimited", model["tokensPerMinute"] or "unlimited"]
    return [model["model"], model["provider"], _key(model), *prices, *limits]


def state_of(provider: Mapping[str, Any]) -> str:
    if not provider["paused"]:
        return "open"
    until = f"on again {ago(provider['pausedUntil'])}" if provider["pausedUntil"] else "until resumed"
    return f"rests, {until}: {provider['reason']}"


def _key(one: Mapping[str, Any]) -> str:
    return "set" if one["configured"] else "not set"


def _print(provider: dict[str, Any]) -> None:
    if invocation().json:
        return print_json(provider)
    print_facts({"provider": provider["name"], "key": _key(provider), "state": state_of(provider)})
