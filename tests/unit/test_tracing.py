"""What is made inside of a span is below it."""

from __future__ import annotations

from uuid import uuid4

from gateway.infra.http import open_http
from gateway.infra.otel import Tracing
from gateway.infra.tracing import Origin, origin, span, tracing, under
from gateway.jobs.job import NewJob
from tests.support.eventually import eventually
from tests.support.jwks_server import jwks_server
from tests.support.otlp_collector import otlp_collector


def new_job() -> NewJob:
    return NewJob(id=uuid4(), queue="email-queue", task="email.send", args={})


async def test_jobs_and_requests_of_a_job_continue_its_trace() -> None:
    async with otlp_collector() as collector, jwks_server() as server, open_http() as client:
        made = Tracing(collector.url, "here")
        await made.start()
        try:
            with under(Origin("request-1", None)), span("process email-queue", "consumer", {}):
                job = new_job()
                assert (await client.get(server.url)).status_code == 200
        finally:
            await made.stop()
        assert not tracing()
        await eventually(lambda: len(collector.spans) == 2)
    (attempt,), (request,) = collector.named("process email-queue"), collector.named("GET")
    assert job.origin.request_id == "request-1"
    assert (job.origin.traceparent or "").startswith(f"00-{attempt.trace}-{attempt.id}-")
    assert (request.trace, request.parent) == (attempt.trace, attempt.id)
    assert request.facts["http.response.status_code"] == 200
    assert origin() == Origin() == new_job().origin
