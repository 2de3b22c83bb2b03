"""A trace from the HTTP request over the job to the SMTP server, sent to a real collector by a real process."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.support.eventually import eventually
from tests.support.gateway import Accepted, Cluster, gateways
from tests.support.gateway_process import GatewayProcess
from tests.support.modes import WITH_REDIS, WITHOUT_REDIS
from tests.support.otlp_collector import Collector, Seen, otlp_collector
from tests.support.smtp_server import ScriptedSmtp

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = f"00-{TRACE}-00f067aa0ba902b7-01"
SEND = {"from": "shop@shop.example", "to": "ada@example.com", "subject": "Hello", "text": "Hello"}
FAST = {"OTEL_BSP_SCHEDULE_DELAY": "50"}


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    async with otlp_collector() as made:
        yield made


@pytest.fixture
async def cluster(
    tmp_path: Path, database_url: str, smtp: ScriptedSmtp, mode_redis_url: str | None
) -> AsyncIterator[Cluster]:
    async with gateways(tmp_path, database_url, smtp, redis_url=mode_redis_url) as made:
        yield made


async def send(gateway: GatewayProcess, **headers: str) -> str:
    answer = await gateway.user.post("/api/v1/emails", json=SEND, headers=headers)
    assert answer.status_code == 202, answer.text
    job: str = answer.json()["data"]["jobId"]
    return job


async def spans(collector: Collector, trace: str | None = None) -> tuple[Seen, Seen, Seen]:
    """Request, attempt and SMTP dialogue of the one mail in a trace."""

    def found() -> list[Seen]:
        return [span for span in collector.spans if trace in (None, span.trace)]

    await eventually(lambda: len(found()) >= 3, 15, "the spans of a mail do not arrive")
    by_name = {span.name: span for span in found()}
    return by_name["POST /api/v1/emails"], by_name["process email-queue"], by_name["SMTP send"]


@WITH_REDIS
async def test_a_callers_trace_reaches_over_two_replicas_to_the_smtp_server(
    cluster: Cluster, collector: Collector
) -> None:
    traced = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, **FAST}
    api = await cluster.start(**traced, GATEWAY_ROLE="api")
    worker = await cluster.start(**traced, GATEWAY_ROLE="worker")
    job = await send(api, traceparent=CALLER)

    request, attempt, dialogue = await spans(collector, TRACE)
    assert request.parent == "00f067aa0ba902b7"
    assert (attempt.parent, dialogue.parent) == (request.id, attempt.id)
    assert (request.facts["http.route"], request.facts["http.response.status_code"]) == ("/api/v1/emails", 202)
    assert attempt.facts["messaging.message.id"] == job
    assert attempt.facts["messaging.destination.name"] == "email-queue"
    assert (attempt.facts["gateway.task"], attempt.facts["gateway.attempt"]) == ("email.send", 1)
    assert (dialogue.facts["server.port"], dialogue.facts["smtp.response.code"]) == (cluster.smtp.port, 250)
    assert not (request.failed or attempt.failed or dialogue.failed)
    assert request.resource["service.name"] == "gateway"
    assert request.resource["service.instance.id"] != attempt.resource["service.instance.id"]
    assert "ada@example.com" not in str([request, attempt, dialogue])
    assert not collector.named("GET /health/live")

    shown = (await api.admin.get(f"/api/v1/admin/jobs/{job}")).json()["data"]
    assert shown["traceparent"] == f"00-{TRACE}-{request.id}-01"
    line = await eventually(lambda: completion(worker))
    assert (line["request_id"], line["trace_id"]) == (shown["requestId"], TRACE)


def completion(worker: GatewayProcess) -> Any:
    lines = worker.log.rpartition("\n")[0].splitlines()  # the last one may be half written
    return next((json.loads(line) for line in lines if "Email job completed" in line), None)


@WITHOUT_REDIS
async def test_a_refused_mail_is_a_failed_span_and_a_retry_another_one(cluster: Cluster, collector: Collector) -> None:
    cluster.smtp.script.mail = [(451, "4.3.0 later")]
    gateway = await cluster.start(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, **FAST, EMAIL_BACKOFF_MS="100")
    await send(gateway, traceparent="not a traceparent")
    await eventually(lambda: len(collector.named("process email-queue")) == 2, 15, "two attempts are not told")
    await eventually(lambda: collector.named("POST /api/v1/emails"), 15, "the request is not told")
    attempts = collector.named("process email-queue")
    (request,) = collector.named("POST /api/v1/emails")
    assert request.parent == ""
    assert [(span.parent, span.failed) for span in attempts] == [(request.id, True), (request.id, False)]
    assert [span.facts["gateway.attempt"] for span in attempts] == [1, 2]

    await gateway.user.delete(f"/api/v1/projects/{uuid4()}/members/ada@example.com")
    await eventually(lambda: any(span.name.startswith("DELETE") for span in collector.spans), 15)
    assert "ada@example.com" not in str(collector.spans)


@WITHOUT_REDIS
async def test_a_silent_collector_delays_no_mail_and_hardly_the_end(cluster: Cluster, collector: Collector) -> None:
    collector.silent = True
    gateway = await cluster.start(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, **FAST)
    mail: Accepted = await cluster.submit(gateway)
    await cluster.all_delivered()
    assert cluster.messages_to(mail)
    await eventually(collector.asked.is_set, 20, "nothing was sent to the collector")
    gateway.terminate()
    assert await gateway.exit_code(15) == 0


@WITH_REDIS
async def test_without_a_collector_a_callers_trace_is_kept(cluster: Cluster) -> None:
    gateway = await cluster.start()
    job = await send(gateway, traceparent=CALLER)
    answer = await gateway.admin.get(f"/api/v1/admin/jobs/{job}")
    assert answer.status_code == 200, answer.text
    shown = answer.json()["data"]
    assert shown["traceparent"] == CALLER
    assert shown["requestId"]
