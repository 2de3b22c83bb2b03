"""Requests are counted by route, method and class of status; nothing that a caller writes becomes a label."""

from __future__ import annotations

from uuid import uuid4

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from gateway.infra.http_metrics import HttpMetrics
from tests.support.web import ADMIN, serving, settings_for


def counted(text: str) -> dict[tuple[str, str, str], float]:
    """Requests by method, route and class of status; zeros left out."""
    return {
        (sample.labels["method"], sample.labels["route"], sample.labels["status"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "gateway_http_requests_total" and sample.value
    }


async def test_requests_are_counted_by_route_never_by_path(database_url: str) -> None:
    async with serving(settings_for(database_url)) as (client, _):
        for _number in range(3):
            assert (await client.get(f"/api/v1/emails/{uuid4()}", headers=ADMIN)).status_code == 404
        await client.get("/api/v1/emails", headers=ADMIN)
        await client.get("/api/v1/emails")  # nobody
        await client.head("/health/live")
        await client.get(f"/no/such/{uuid4()}")
        await client.delete("/health")
        await client.request("BREW", "/health/live")
        text = (await client.get("/metrics")).text
    assert counted(text) == {
        ("GET", "/api/v1/emails/{email_id}", "4xx"): 3,
        ("GET", "/api/v1/emails", "2xx"): 1,
        ("GET", "/api/v1/emails", "4xx"): 1,
        ("HEAD", "/health/live", "2xx"): 1,
        ("GET", "unmatched", "4xx"): 1,
        ("DELETE", "unmatched", "4xx"): 1,
        ("other", "unmatched", "4xx"): 1,
    }
    times = [
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "gateway_http_request_duration_seconds_count"
        and sample.labels == {"method": "GET", "route": "/api/v1/emails"}
    ]
    assert times == [2]


def test_failures_are_seen_from_zero_and_the_labels_stay_bounded() -> None:
    registry = CollectorRegistry()
    metrics = HttpMetrics(registry)
    for number in range(100):
        metrics.ended(f"M{number}", "/health", 200, 0.001)
    metrics.ended("GET", "/health", None, 0.001)
    text = generate_latest(registry).decode()
    assert counted(text) == {("other", "/health", "2xx"): 100, ("GET", "/health", "none"): 1}
    assert 'gateway_http_requests_total{method="GET",route="/health",status="5xx"} 0.0' in text
