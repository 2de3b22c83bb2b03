"""What the gateway calls: the mail server, model providers; and Prometheus, if it is named."""

from __future__ import annotations

import asyncio
import re
from importlib import import_module
from typing import TYPE_CHECKING, Any

from gateway.cli.doctor.findings import Finding, ok, problem, skipped, warning

if TYPE_CHECKING:
    from gateway.cli.instance import DevFile
    from gateway.llm.providers import Provider
    from gateway.settings import Settings

_HTTP_S = 5.0
_MODELS_S = 5.0
# Our metrics, the series that our rules record, and the name of our job and autoscalers.
_OURS = re.compile(r"\b(?:gateway|queue|supervisor)_|\bnamespace:(?:http_errors|email_late):|\bapi-gateway\b")


async def mail_server(settings: Settings) -> list[Finding]:
    """Connects, secures and logs in, as a mail would; sends none."""
    if settings.smtp_host is None:
        return [skipped("smtp", "SMTP_HOST is not set: nothing is sent from here")]
    from gateway.cli.check import smtp_finding

    found = await smtp_finding(settings, settings.smtp_host)
    dns = "SPF, DKIM and DMARC: the gateway does not sign mails; ask your mail server's provider"
    if found.ok:
        return [ok("smtp", found.said), skipped("dns of mail", dns)]
    return [problem("smtp", found.said, "Correct SMTP_*, or repair the server.")]


async def providers(settings: Settings, dev: DevFile | None = None) -> list[Finding]:
    """``dev``: the `gateway dev` that is examined; its keys may be others than those that are known here."""
    from gateway.llm.providers import providers_of

    found = providers_of(settings)
    if not found and dev is not None:
        if dev.demo_models:
            return [ok("models", "no provider has a key: the demonstration of gateway dev answers, and says so")]
        return [skipped("models", "gateway dev has the key of a provider, and this shell has not")]
    if not found:
        return [skipped("models", "no provider has a key: agents and conversations answer with not_configured")]
    return list(await asyncio.gather(*(_provider(provider) for provider in found.values())))


async def _provider(provider: Provider) -> Finding:
    """Listing models costs nothing."""
    from gateway.llm.model import ModelError

    name = f"models: {provider.name}"
    # In a thread: importing the library takes a second, in which the others would hear no answer.
    module = await asyncio.to_thread(import_module, "gateway.llm.openai_client")
    client = module.OpenAIClient(provider, _MODELS_S)
    try:
        models = await client.models()
    except ModelError as error:
        if error.kind == "unknown_model":
            return skipped(name, "it answers, but lists no models, so its key was not tried")
        return problem(name, str(error), f"Correct the key or the address of {provider.name}; runs that need it fail.")
    finally:
        await client.close()
    return ok(name, f"takes the key, {models} models")


async def alert_rules(prometheus: str | None) -> list[Finding]:
    if prometheus is None:
        return [skipped("alerts", "name a Prometheus with --prometheus URL")]
    import httpx

    from gateway.settings import masked_url

    url = f"{prometheus.rstrip('/')}/api/v1/rules"
    shown = masked_url(url)
    try:
        async with httpx.AsyncClient(timeout=_HTTP_S, trust_env=False) as client:
            groups = (await client.get(url)).raise_for_status().json()["data"]["groups"]
        rules = [rule for group in groups for rule in group["rules"] if _about_us(rule)]
    except httpx.HTTPStatusError as error:  # its own words name the URL, with a password that is in it
        seen = f"{shown} answers with status {error.response.status_code}"
        return [problem("alerts", seen, "Name Prometheus' own address, with a login if it wants one.")]
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        seen = f"{shown} does not answer ({error or type(error).__name__})"
        return [problem("alerts", seen, "Correct --prometheus.")]
    except (ValueError, LookupError, TypeError):
        return [problem("alerts", f"{shown} did not answer as Prometheus does", "Name Prometheus' own address.")]
    return [_judged(rules)]


def _judged(rules: list[dict[str, Any]]) -> Finding:
    alerts = [rule for rule in rules if rule.get("type") == "alerting"]
    if not alerts:
        return problem("alerts", "Prometheus has no alert about the gateway", "Load the rules that come with it.")
    broken = sorted({rule["name"] for rule in rules if rule.get("health") == "err"})
    if broken:
        return problem("alerts", f"rules that fail: {', '.join(broken)}", "See Prometheus' page of rules.")
    firing = sorted({rule["name"] for rule in alerts if rule.get("state") == "firing"})
    seen = f"{len(alerts)} alerts are loaded"
    if firing:
        return warning("alerts", f"{seen}, firing now: {', '.join(firing)}", "See what each of them says.")
    return ok("alerts", f"{seen}, none fires")


def _about_us(rule: dict[str, Any]) -> bool:
    return _OURS.search(rule["query"]) is not None
