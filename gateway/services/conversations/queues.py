"""The two queues of conversations (document 002): their numbers, and their jobs."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

import msgspec

from gateway.jobs.job import NewJob
from gateway.jobs.policy import QueuePolicy, Retention
from gateway.settings import Settings

CHAT_TASK: Final = "chat.answer"
RESEARCH_TASK: Final = "deep-research.iterate"
CHAT_WINDOW_S: Final = 60.0
RESEARCH_WINDOW_S: Final = 300.0
_HOUR_S: Final = 3600


class Profile(StrEnum):
    """What a conversation is for. Each is the name of its queue, and its word in GATEWAY_PROFILES."""

    CHAT = "chat"
    DEEP_RESEARCH = "deep-research"


class MessageJobData(msgspec.Struct, frozen=True, rename="camel"):
    """The argument of both tasks: that of document 002 without the text, which is a row. ``authMethod``: jwt, api_key
    or none."""

    user_id: str
    conversation_id: UUID
    message_id: UUID
    auth_method: str
    requested_at: datetime


class UserLimit(msgspec.Struct, frozen=True):
    """``most`` messages of one caller in any ``window_s`` seconds; 0 is any number."""

    most: int
    window_s: float


def policy_of(profile: Profile, settings: Settings) -> QueuePolicy:
    """O15 and O16: chat 5 at once in each replica, 3 attempts after 1 and 2 s, kept 1 h and 24 h; research 3 at once, 2
    attempts for each iteration after 5 s, kept 24 h and 7 d."""
    if profile is Profile.CHAT:
        return QueuePolicy(
            name=profile,
            concurrency=settings.chat_queue_concurrency,
            rate=None,
            attempts=3,
            backoff_ms=1000,
            timeout_s=settings.chat_timeout_ms / 1000,
            retention=Retention(completed_s=_HOUR_S, failed_s=24 * _HOUR_S),
        )
    return QueuePolicy(
        name=profile,
        concurrency=settings.deep_research_queue_concurrency,
        rate=None,
        attempts=2,
        backoff_ms=5000,
        timeout_s=settings.deep_research_timeout_ms / 1000,
        retention=Retention(completed_s=24 * _HOUR_S, failed_s=7 * 24 * _HOUR_S),
    )


def limit_of(profile: Profile, settings: Settings) -> UserLimit:
    if profile is Profile.CHAT:
        return UserLimit(settings.chat_rate_limit_per_minute, CHAT_WINDOW_S)
    return UserLimit(settings.deep_research_rate_limit_per_5min, RESEARCH_WINDOW_S)


def job_of(profile: Profile, job_id: UUID, data: MessageJobData) -> NewJob:
    """Its group is the user, so that who asks much does not keep others waiting."""
    return NewJob(
        id=job_id,
        queue=profile,
        task=CHAT_TASK if profile is Profile.CHAT else RESEARCH_TASK,
        args=msgspec.to_builtins(data),
        group=data.user_id,
    )
