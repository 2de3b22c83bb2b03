"""Settings of what clients see live: WebSocket and server-sent events."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field


class RealtimeSettings(BaseModel):
    """A part of ``Settings``, which inherits it."""

    realtime_allow_query_token: bool = Field(
        False, description="True also takes ?token= at /api/ws and /api/v1/events; proxies may write it to their logs."
    )
    realtime_connections_per_user: Annotated[int, Field(ge=1, le=100_000)] = Field(
        20, description="WebSockets and event streams of one caller at once, in each process."
    )
    realtime_recheck_s: Annotated[float, Field(ge=0.1, le=3600)] = Field(
        30.0, description="Seconds between two checks whether a connected caller may still listen."
    )
    realtime_replay_s: Annotated[float, Field(ge=60, le=604_800)] = Field(
        3600.0, description="Seconds for which the messages of a channel are kept after its last one, for replay."
    )
    realtime_replay_messages: Annotated[int, Field(ge=10, le=100_000)] = Field(
        1000, description="Messages of one channel that are kept for replay, about."
    )
