"""What is told of messages: the six types of document 002 with the conversation's and the message's ids, and tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Final
from uuid import UUID

from gateway.realtime.channel import Channel, Publisher, Topic
from gateway.services.conversations.store import MessageStore

TOKENS_EVERY_S: Final = 0.05
TOKENS_MAX: Final = 1000  # characters of one message: a channel takes no long ones, and JSON may need 6 bytes for each
PARTIAL_MAX: Final = 200_000  # characters kept of an answer that was cut
FOLLOW_S: Final = 1.0
_BATCH: Final = 100


class Teller:
    """Tells of one message, on its conversation's channel and on its job's. ``job_id`` is the one that its caller
    knows, also where other jobs go on with a research."""

    def __init__(self, publisher: Publisher, conversation_id: UUID, message_id: UUID, job_id: UUID) -> None:
        self._publisher = publisher
        self._channels = (
            Channel(Topic.CONVERSATION, str(conversation_id)),
            Channel(Topic.JOB, str(job_id)),
        )
        self._ids = {"conversationId": str(conversation_id), "messageId": str(message_id)}
        self._job = {"jobId": str(job_id), **self._ids}

    def started(self) -> None:
        self._publisher.publish(self._channels, "job:started", self._job)

    def progress(self, stage: str, percent: int) -> None:
        fields = {**self._job, "progress": {"stage": stage, "percent": percent}}
        self._publisher.publish(self._channels, "job:progress", fields)

    def state(self, state_id: UUID) -> None:
        self._publisher.publish(self._channels, "state:updated", {**self._ids, "stateId": str(state_id)})

    def tokens(self, text: str) -> None:
        for at in range(0, len(text), TOKENS_MAX):
            self._publisher.publish(self._channels, "run:token", {**self._job, "text": text[at : at + TOKENS_MAX]})

    def ended(self, status: str) -> None:
        """The message has changed for the last time."""
        self._publisher.publish(self._channels, "message:updated", self._ids)
        kind = "job:completed" if status == "completed" else "job:failed"
        self._publisher.publish(self._channels, kind, {**self._job, "status": status})


class Words:
    """Collects a model's words and tells them about each 50 ms. An ``OnToken``; ``text`` is all that has come."""

    def __init__(self, teller: Teller, *, tell: bool = True) -> None:
        self._teller = teller
        self._tell = tell
        self._said: list[str] = []
        self._size = 0
        self._waiting: list[str] = []
        self._timer: asyncio.TimerHandle | None = None

    def __call__(self, text: str) -> None:
        if self._size < PARTIAL_MAX:
            self._said.append(text)
            self._size += len(text)
        if not self._tell:
            return
        self._waiting.append(text)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TOKENS_EVERY_S, self.flush)

    @property
    def text(self) -> str:
        return "".join(self._said)[:PARTIAL_MAX]

    def flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            text, self._waiting = "".join(self._waiting), []
            self._teller.tokens(text)


class MessageEnds:
    """Tells how messages ended, after the commit: at least once, so that none is missed by a process that dies."""

    def __init__(self, store: MessageStore, publisher: Publisher) -> None:
        self._store = store
        self._publisher = publisher

    async def tell(self, message_ids: Collection[UUID]) -> int:
        """Tell of these, and of those that ended some seconds ago untold; answers of how many."""
        ended = await self._store.untold(message_ids, _BATCH)
        for one in ended:
            Teller(self._publisher, one.conversation_id, one.id, one.job_id).ended(one.status)
        if ended:
            await self._store.told([(one.id, one.status) for one in ended])
        return len(ended)

    async def follow(self, message_id: UUID | None = None) -> None:
        """Messages go where their jobs went when those ended by themselves. A chore, or for one message at once."""
        while True:
            followed = await self._store.follow(message_id, _BATCH)
            told = await self.tell(followed)
            if len(followed) < _BATCH and told < _BATCH:
                return
