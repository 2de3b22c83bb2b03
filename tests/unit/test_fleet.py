"""What is odd about replicas together."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.jobs.fleet import Oddity, oddities
from gateway.jobs.records import Replica
from gateway.settings import Settings, shared_settings

NOW = datetime(2026, 11, 22, tzinfo=UTC)
MAIL, RUNS = "email-queue", "orchestration-queue"


def replica(name: str, *queues: str, role: str = "all", **differs: Any) -> Replica:
    facts: dict[str, Any] = {"version": "1.0.0", "mode": "queue", "draining": False, "configuration": {"RATE": "10"}}
    slots = {queue: {"slots": 5, "busy": 0} for queue in queues}
    times = {"started_at": NOW, "seen_at": NOW}
    return Replica(id=name, role=role, host="host", pid=1, slots=slots, **times, **(facts | differs))


EVEN = {
    "none": [],
    "alike": [replica("a", MAIL, RUNS), replica("b", MAIL, RUNS)],
    "split": [replica("a", role="api"), replica("w", MAIL, RUNS, role="worker")],
    "switched off": [replica("a"), replica("w", MAIL, role="worker")],
    "other queues": [replica("a", RUNS), replica("w", MAIL, role="worker")],
    "one that drains": [replica("a", MAIL), replica("old", MAIL, version="0.9.0", draining=True)],
    "an older version that announces nothing": [replica("a", MAIL), replica("b", MAIL, configuration={})],
}


@pytest.mark.parametrize("replicas", EVEN.values(), ids=EVEN)
def test_nothing_is_odd(replicas: list[Replica]) -> None:
    assert oddities(replicas) == []


def test_an_api_that_works_beside_dedicated_workers_is_seen_and_told_how_to_stop() -> None:
    [odd] = oddities([replica("a", MAIL, RUNS), replica("quiet"), replica("w", MAIL, role="worker")])
    assert (odd.kind, odd.replicas) == (Oddity.DOUBLE_CONSUMERS, ["a"])
    assert "take jobs of email-queue too" in odd.message
    assert "DISABLE_BACKGROUND_WORKERS=true" in odd.message


def test_different_settings_are_named_with_their_values() -> None:
    others = [replica(name, MAIL, configuration={"RATE": "10", "ATTEMPTS": "3"}) for name in "ab"]
    [odd] = oddities([*others, replica("c", MAIL, configuration={"RATE": "20", "ATTEMPTS": "3"})])
    assert (odd.kind, odd.replicas) == (Oddity.MIXED_SETTINGS, ["c"])
    assert "RATE is 10 (on 2), 20 (on 1)" in odd.message
    assert "ATTEMPTS" not in odd.message


def test_versions_and_modes() -> None:
    seen = oddities([replica("a", MAIL), replica("b", MAIL), replica("c", MAIL, version="1.1.0", mode="direct")])
    assert [(odd.kind, odd.replicas) for odd in seen] == [
        (Oddity.MIXED_VERSIONS, ["c"]),
        (Oddity.MIXED_MODES, ["c"]),
    ]
    assert "1.0.0 (on 2), 1.1.0 (on 1)" in seen[0].message


def test_what_is_announced_holds_no_secret_and_nothing_of_one_process() -> None:
    secret = "hunter2-hunter2-hunter2"
    settings = Settings.model_validate(
        {
            "database_url": f"postgresql://u:{secret}@db/g",
            "redis_url": f"redis://:{secret}@cache:6379/0",
            "jwt_secret": secret,
            "smtp_host": "smtp.example",
            "smtp_password": secret,
            "openai_api_key": secret,
            "openai_base_url": f"https://u:{secret}@models.example/v1",
            "otel_exporter_otlp_endpoint": "http://10.0.0.7:4318",
        }
    )
    announced = shared_settings(settings)
    assert secret not in str(announced)
    assert (announced["EMAIL_ATTEMPTS"], announced["REDIS"]) == ("3", "redis://cache:6379/0")
    assert announced["SMTP_HOST"] == "smtp.example"
    own = {
        "PORT",
        "GATEWAY_ROLE",
        "EMAIL_QUEUE_CONCURRENCY",
        "DATABASE_URL",
        "LOG_LEVEL",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
    }
    assert not own & announced.keys()


def test_a_process_that_sends_no_mail_announces_nothing_of_smtp() -> None:
    announced = shared_settings(Settings.model_validate({"database_url": "postgresql://db/g"}))
    assert not [name for name in announced if name.startswith("SMTP_")]
