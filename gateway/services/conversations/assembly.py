"""The feature, put together."""

from __future__ import annotations

from functools import partial
from typing import Any

from gateway.feature import Feature, Platform
from gateway.jobs.duties import DAY_S, HOUR_S, Duty, in_batches
from gateway.jobs.maintenance import Chore
from gateway.jobs.registry import Task
from gateway.realtime.channel import Topic
from gateway.services.conversations.answering import Answering
from gateway.services.conversations.chat import ChatTask
from gateway.services.conversations.iterating import ResearchTask
from gateway.services.conversations.queues import Profile, policy_of
from gateway.services.conversations.routes import conversation_routes
from gateway.services.conversations.service import Conversations
from gateway.services.conversations.store import SQL, MessageStore
from gateway.services.conversations.telling import FOLLOW_S


def feature(platform: Platform) -> Feature:
    """Of the profiles that are on."""
    settings = platform.settings
    profiles = tuple(Profile(name) for name in settings.profiles)
    store = MessageStore(platform.pool)
    answering = Answering(store, platform.models, platform.publisher)
    conversations = Conversations(platform, store, answering.ends)
    tasks: dict[Profile, Task[Any]] = {
        Profile.CHAT: ChatTask(answering).task(),
        Profile.DEEP_RESEARCH: ResearchTask(answering, platform.engine).task(),
    }
    return Feature(
        name="conversations",
        queues=tuple(policy_of(profile, settings) for profile in profiles),
        tasks=tuple(tasks[profile] for profile in profiles),
        routes=(conversation_routes(conversations, profiles),),
        chores=(
            Chore("follow messages", FOLLOW_S, answering.ends.follow),
            *_duties(store, settings.conversation_retention_days),
        ),
        channels={Topic.CONVERSATION: conversations.may_listen, Topic.JOB: conversations.may_follow},
    )


def _duties(store: MessageStore, days: int) -> tuple[Duty, ...]:
    allowances = Duty(
        "prune allowances", "Forgets callers who asked nothing for an hour.", HOUR_S, store.prune_allowances
    )
    if not days:
        return (allowances,)
    run = partial(in_batches, store.pool, SQL["conversations_prune"], float(days * DAY_S))
    does = f"Deletes conversations in which nothing was asked for {days} days."
    return allowances, Duty("prune conversations", does, DAY_S, run, offset_s=2 * HOUR_S)
