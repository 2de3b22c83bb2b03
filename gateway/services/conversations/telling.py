"""What is told of messages: the six types of document 002 with the conversation's and the message's ids, and tokens."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final
from uuid import UUID

from gateway.realtime.channel import Channel, Publisher, Topic
from gateway.services.conversations.store import MessageStore

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
        self._publisher.publish(self._channels, "run:token", {**self._job, "text": text})

    def ended(self, status: str) -> None:
        """The message has changed for the last time."""
        self._publisher.publish(self._channels, "message:updated", self._ids)
        kind = "job:completed" if status == "completed" else "job:failed"
        self._publisher.publish(self._channels, kind, {**self._job, "status": status})


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
