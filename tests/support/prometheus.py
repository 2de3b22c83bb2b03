"""A real Prometheus that scrapes processes of a test, with the shipped rules."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from gateway.dev_servers import free_port
from tests.support.debian import TRIXIE, program
from tests.support.eventually import eventually

RULES = Path(__file__).resolve().parents[2] / "monitoring" / "rules.yaml"
JOB = "api-gateway"
Labels = frozenset[tuple[str, str]]


def impatient_rules(for_: str) -> dict[str, Any]:
    """The shipped rules, but alerts wait only *for_* before they fire."""
    rules: dict[str, Any] = yaml.safe_load(RULES.read_text("utf-8"))
    for group in rules["groups"]:
        for rule in group["rules"]:
            if "alert" in rule:
                rule["for"] = for_
    return rules


class Prometheus:
    """Asks the server; times are seconds since 1970."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def query(self, expression: str) -> dict[Labels, float]:
        """Values by labels, without the name."""
        found = await self._get("query", query=expression)
        return {_labels(one["metric"]): float(one["value"][1]) for one in found["result"]}

    async def value(self, expression: str) -> float | None:
        """Of an expression with one series or none."""
        values = await self.query(expression)
        assert len(values) <= 1, values
        return next(iter(values.values()), None)

    async def query_range(
        self, expression: str, start: float, end: float, step: float
    ) -> list[tuple[dict[str, str], list[tuple[float, float]]]]:
        """Each series: its labels, and time and value of its points."""
        found = await self._get("query_range", query=expression, start=str(start), end=str(end), step=str(step))
        return [(one["metric"], [(float(at), float(value)) for at, value in one["values"]]) for one in found["result"]]

    async def firing(self) -> set[str]:
        return {alert["labels"]["alertname"] for alert in await self.alerts() if alert["state"] == "firing"}

    async def alerts(self) -> list[dict[str, Any]]:
        """Those that are pending or firing."""
        found: list[dict[str, Any]] = (await self._get("alerts"))["alerts"]
        return found

    async def rule_faults(self) -> list[str]:
        groups = (await self._get("rules"))["groups"]
        return [rule["lastError"] for group in groups for rule in group["rules"] if rule.get("lastError")]

    async def _get(self, what: str, **parameters: str) -> Any:
        answer = await self._client.get(f"/api/v1/{what}", params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]


def _labels(metric: dict[str, str]) -> Labels:
    return frozenset((name, value) for name, value in metric.items() if name != "__name__")


def _configuration(targets: Sequence[str], interval: str) -> dict[str, Any]:
    return {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [{"job_name": JOB, "static_configs": [{"targets": list(targets)}]}],
    }


def _started(
    directory: Path, address: str, configuration: dict[str, Any], rules: dict[str, Any]
) -> subprocess.Popen[bytes]:
    directory.mkdir()
    (directory / "rules.yaml").write_text(yaml.safe_dump(rules))
    (directory / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    command = [
        str(program("prometheus", "prometheus", suite=TRIXIE)),
        f"--config.file={directory / 'prometheus.yml'}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address={address}",
    ]
    with (directory / "log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=directory)


@asynccontextmanager
async def prometheus(
    directory: Path, targets: Sequence[str], rules: dict[str, Any], interval: str = "500ms"
) -> AsyncIterator[Prometheus]:
    """``targets``: host:port of each replica. Scrapes and evaluates once per *interval*."""
    address = f"127.0.0.1:{free_port()}"
    process = _started(directory, address, _configuration(targets, interval), rules)
    client = httpx.AsyncClient(base_url=f"http://{address}", trust_env=False, timeout=10)

    async def ready() -> bool:
        if process.poll() is not None:
            raise RuntimeError(f"Prometheus ended with {process.returncode}: {directory / 'log'}")
        try:
            return (await client.get("/-/ready")).is_success
        except httpx.TransportError:
            return False

    try:
        await eventually(ready, 30, "Prometheus is not ready")
        yield Prometheus(client)
    finally:
        process.kill()
        process.wait(10)
        await client.aclose()
