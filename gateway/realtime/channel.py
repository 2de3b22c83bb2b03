"""Channels, and what is told on them. Pure.

Notify and fetch (document 002): a message carries ids and small numbers, never bodies; whoever wants more asks by HTTP.
"""

from __future__ import annotations

import re
from contextlib import suppress
from enum import StrEnum
from typing import Any, Final, Protocol
from uuid import UUID

import msgspec

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}")


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


def parse_channel(name: str) -> Channel:
    """Other spellings of a row's id mean that row: on what nobody tells, one would wait for ever. Raises ValueError
    saying what a channel's name looks like."""
    topic, _, channel_id = name.partition(":")
    if topic not in list(Topic):
        raise ValueError(f"is not one of {', '.join(f'{one}:ID' for one in Topic)}")
    if not _ID.fullmatch(channel_id):
        raise ValueError(f"has an id that is not 1 to 128 letters, digits and . _ : @ - (like {topic}:0198c1d2)")
    if topic != Topic.QUEUE:
        with suppress(ValueError):
            channel_id = str(UUID(channel_id))
    return Channel(Topic(topic), channel_id)


class Publisher(Protocol):
    def publish(self, channels: tuple[Channel, ...], kind: str, fields: dict[str, Any]) -> None:
        """Tell whoever listens, in any replica. Never blocks and never fails: what cannot be told is counted.

        ``kind``: ``job:started``, ``job:progress``, ``job:completed``, ``job:failed``, ``message:updated``,
        ``state:updated`` (document 002), or one of ours: ``run:step``, ``run:token``, ``run:approval``. ``fields`` are
        the message's other keys, camelCase: ids, ``progress``. Messages of one publisher keep their order in a channel.
        A message of more than 8 KiB of JSON is not told.
        """
        ...

    async def written(self) -> None:
        """Returns when all that was published before is in a log, where it outlives this process."""
        ...
