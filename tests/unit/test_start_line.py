"""What a process says first: which parts of it are on, as the settings were resolved."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.cli.serve import start_line
from tests.support.web import settings_for

BOTH = "deep-research, chat"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "role=all · direct · email=5 orchestration=3 · smtp=127.0.0.1:1"),
        ({"gateway_role": "api"}, "role=api · direct"),
        ({"gateway_role": "api", "gateway_profiles": BOTH}, "role=api · direct · profiles=chat,deep-research"),
        (
            {"gateway_profiles": BOTH, "gateway_queues": "email-queue,chat"},
            "role=all · direct · profiles=chat,deep-research · email=5 chat=5 · smtp=127.0.0.1:1",
        ),
        (
            {"redis_url": "redis://:secret@redis:6379/0", "gateway_queues": "orchestration"},
            "role=all · redis://redis:6379/0 · orchestration=3 · smtp=127.0.0.1:1",
        ),
    ],
    ids=["all", "api", "profiles", "queues", "redis"],
)
def test_a_start_says_what_is_on(settings: dict[str, Any], said: str) -> None:
    line = start_line(settings_for("postgresql://unused/unused", **settings))
    assert line == f"gateway 0.1.0 · {said}"
