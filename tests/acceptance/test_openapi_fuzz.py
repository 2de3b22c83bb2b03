"""Every operation of ``/openapi.json``, called over HTTP with what its schema allows and with what it does not: no 5xx,
no status, content type or body that is not documented, and nothing accepted that the schema forbids.

The same requests each time; ``FUZZ_EXAMPLES=200`` sends so many of each kind to each operation, ``FUZZ_SEED`` others.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support.eventually import eventually
from tests.support.gateway import environment_of
from tests.support.gateway_process import GatewayProcess, bearer, token
from tests.support.smtp_server import ScriptedSmtp

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "3"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))
CHECKS: list[Any] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
# A drained replica takes no job until it is restarted: what comes after would meet jobs that only wait. So this
# operation gets ids of no replica, and the right one at the very end.
DRAIN = "/api/v1/admin/workers/{worker_id}/drain"
# What makes a generated mail one that is accepted: a schema can hardly say what an address is.
SENDABLE = {"from": "shop@shop.example", "to": "ada@example.com", "text": "Hello", "test": "delivered"}
# Whoever signs may deliver, so nobody is asked who he is.
WEBHOOK = "/api/v1/orchestration/webhooks/{trigger_id}"
ASKING = ("/api/chat", "/api/deep-research/start")
PUBLIC = {WEBHOOK, "/health", "/health/live", "/health/ready", "/api/health", "/metrics"}

CRON_SECRET = "kq8WmZ2v7Yt4Rb1Nc6Hs9Jd3Lf5Gx0Pa"
MACHINES = "/api/v1/workers/"

Known = dict[str, list[str]]


@pytest.fixture
async def gateway(tmp_path: Path, database_url: str, smtp: ScriptedSmtp) -> AsyncIterator[GatewayProcess]:
    settings = {"SMTP_FROM_EMAIL": "shop@shop.example", "CRON_SECRET": CRON_SECRET}
    settings |= {"GATEWAY_PROFILES": "chat,deep-research"}
    environment = environment_of(database_url, smtp=(smtp.host, smtp.port), **settings)
    process = GatewayProcess(tmp_path, 1, environment, 0)
    try:
        await process.wait_ready()
        yield process
    finally:
        await process.close()


@pytest.fixture
async def known(gateway: GatewayProcess) -> Known:
    """Ids of what there is, in every state that a caller can bring about, by the name of the path parameter."""
    call = gateway.admin
    mails = [{"test": outcome} for outcome in ("delivered", "bounced", "failed", "delivered")]
    mails += [{"scheduledAt": "2099-01-01T00:00:00Z"}] * 3
    for mail in mails:
        accepted = await call.post("/api/v1/emails", json={"to": "ada@example.com", "text": "Hello"} | mail)
        assert accepted.status_code == 202, accepted.text

    async def ended() -> bool:
        counts = (await call.get("/admin/queues/api/queues")).json()["queues"][0]["counts"]
        return bool(counts["waiting"] + counts["active"] == 0)

    await eventually(ended)
    bulk = {"action": "cancel", "filter": {"error": "nobody has it"}}
    await call.post("/api/v1/admin/queues/email/bulk", json=bulk)
    await call.post("/api/v1/admin/keys", json={"name": "fuzzed", "scopes": ["emails:read"]})
    project = (await call.post("/api/v1/projects", json={"name": "Fuzzed"})).json()["data"]["id"]
    await call.post("/api/v1/orchestration/schedules", json={"projectId": project, "preset": "daily"})
    for job_type in ("batch", "single_agent"):  # without a key of a provider they fail at once
        agent = {"agentSlug": "general"} if job_type == "single_agent" else {}
        await call.post("/api/v1/orchestration/jobs", json={"projectId": project, "jobType": job_type, **agent})
    await call.post("/api/v1/orchestration/triggers", json={"projectId": project, "name": "Fuzzed"})
    asked = [(await call.post(path, json={"message": "Hello"})).json()["data"] for path in ASKING]
    found = {
        name: [each["id"] for each in (await call.get(path)).json()["data"]]
        for name, path in {
            "email_id": "/api/v1/emails",
            "job_id": "/api/v1/admin/jobs",
            "operation_id": "/api/v1/admin/operations",
            "key_id": "/api/v1/admin/keys",
            "worker_id": "/api/v1/admin/workers",
            "run_id": "/api/v1/orchestration/jobs",
            "schedule_id": "/api/v1/orchestration/schedules",
            "trigger_id": "/api/v1/orchestration/triggers",
            "project_id": "/api/v1/projects",
            "conversation_id": "/api/conversations",
        }.items()
    }
    found["message_id"] = [each["messageId"] for each in asked]
    assert all(found.values()), found
    people_and_agents = {"principal": ["bob", "root"], "slug": ["developer", "general", "my-own"]}
    return found | {"name": ["email", "email-queue", "orchestration"]} | people_and_agents


def operations_of(gateway: GatewayProcess) -> list[APIOperation[Any]]:
    document = httpx.get(f"{gateway.url}/openapi.json").json()
    return [found.ok() for found in schemathesis.openapi.from_dict(document).get_all_operations()]


def requests_for(operation: APIOperation[Any], mode: GenerationMode, known: Known) -> st.SearchStrategy[Case]:
    """Requests as the schema has them or as it does not; three of four name something that is there."""

    cases = operation.as_strategy(generation_mode=mode)

    @st.composite
    def request(draw: st.DrawFn) -> Case:
        case: Case = draw(cases)
        for name in case.path_parameters or {}:
            if name in known and operation.path != DRAIN and draw(st.sampled_from((True, True, True, False))):
                case.path_parameters[name] = draw(st.sampled_from(known[name]))
        if isinstance(case.body, dict) and "to" in case.body and draw(st.booleans()):
            case.body |= SENDABLE
        if isinstance(case.body, dict) and "projectId" in case.body and draw(st.booleans()):
            case.body["projectId"] = draw(st.sampled_from(known["project_id"]))
        return case

    return request()


def fuzz(
    operation: APIOperation[Any], mode: GenerationMode, known: Known, check: Callable[[Case], None], examples: int
) -> None:
    @seed(SEED)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(requests_for(operation, mode, known))
    def answers_as_documented(case: Case) -> None:
        check(case)

    answers_as_documented()


def modes_of(operation: APIOperation[Any]) -> list[GenerationMode]:
    """Without a parameter or a body there is nothing to say wrongly."""
    takes = operation.path_parameters or operation.query or operation.headers or operation.body
    return list(GenerationMode) if takes else [GenerationMode.POSITIVE]


def failures_of(
    gateway: GatewayProcess,
    known: Known,
    callers: list[dict[str, str]],
    wanted: set[int] | None,
    examples: int,
    operations: list[APIOperation[Any]] | None = None,
) -> list[str]:
    """Answers that are not as documented, or (``wanted``) have another status. ``callers``: the headers of each that
    sends the request. ``operations`` None: all."""

    def check(case: Case) -> None:
        public = case.operation.path in PUBLIC  # these take parameters that machines add
        checks = CHECKS if public else [*CHECKS, negative_data_rejection]
        for headers in callers:
            response = case.call(base_url=gateway.url, headers=headers, timeout=15)
            case.validate_response(response, checks=checks, headers=headers)
            if wanted is not None and not public:
                assert response.status_code in wanted, f"{case.method} {case.operation.path}: {response.status_code}"

    found = []
    for operation in operations or operations_of(gateway):
        for mode in modes_of(operation):
            try:
                fuzz(operation, mode, known, check, examples)
            except (FailureGroup, AssertionError) as error:
                found.append(str(error))
    return found


@pytest.mark.timeout(0 if EXAMPLES > 3 else 180)
def test_every_operation_answers_as_documented(gateway: GatewayProcess, known: Known) -> None:
    found = failures_of(gateway, known, [bearer(token("admin"))], None, EXAMPLES)
    assert not found, "\n\n".join([f"FUZZ_SEED={SEED} FUZZ_EXAMPLES={EXAMPLES}", *found])
    drained = httpx.post(
        f"{gateway.url}{DRAIN.format(worker_id=known['worker_id'][0])}", headers=bearer(token("admin"))
    )
    assert drained.status_code == 202, drained.text


@pytest.mark.timeout(180)
def test_no_operation_answers_to_who_may_not_ask(gateway: GatewayProcess, known: Known) -> None:
    """However the request looks: who it is comes first."""
    assert not failures_of(gateway, known, [{}, bearer("gw_" + "x" * 43)], {401}, max(1, EXAMPLES // 4))


@pytest.mark.timeout(180)
def test_machines_are_answered_as_documented(gateway: GatewayProcess, known: Known) -> None:
    of_machines = [operation for operation in operations_of(gateway) if operation.path.startswith(MACHINES)]
    assert len(of_machines) == 7
    found = failures_of(gateway, known, [bearer(CRON_SECRET)], None, EXAMPLES, of_machines)
    assert not found, "\n\n".join([f"FUZZ_SEED={SEED} FUZZ_EXAMPLES={EXAMPLES}", *found])
