"""Channels, and what is told on them. Pure.

Notify and fetch (document 002): a message carries ids and small numbers, never bodies; whoever wants more asks by HTTP.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Protocol

import msgspec


class Topic(StrEnum):
    """What a channel is about; its name is ``{topic}:{id}``."""

    CONVERSATION = "conversation"
    PROJECT = "project"
    JOB = "job"
    QUEUE = "queue"


class Channel(msgspec.Struct, frozen=True):
    topic: Topic
    id: str

    def __str__(self) -> str:
        return f"{self.topic}:{self.id}"


class Publisher(Protocol):
    def publish(self, channels: tuple[Channel, ...], kind: str, fields: dict[str, Any]) -> None:
        """Tell whoever listens, in any replica. Never blocks and never fails: what cannot be told is counted.

        ``kind``: ``job:started``, ``job:progress``, ``job:completed``, ``job:failed``, ``message:updated``,
        ``state:updated`` (document 002), or one of ours: ``run:step``, ``run:token``, ``run:approval``. ``fields`` are
        the message's other keys, camelCase: ids, ``progress``. Messages of one publisher keep their order in a channel.
        """
        ...
