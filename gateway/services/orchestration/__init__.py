"""Agent jobs. So far their queue is declared; its tasks and routes come later."""

from __future__ import annotations

from gateway.feature import Feature, Platform
from gateway.services.orchestration.queue import orchestration_policy


def feature(platform: Platform) -> Feature:
    return Feature(
        name="orchestration", queues=(orchestration_policy(platform.settings),), tasks=(), routes=(), components=()
    )
