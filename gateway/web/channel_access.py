"""Who may listen to which channel. On doubt, nobody (trap T46)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import structlog

from gateway.access import Principal
from gateway.feature import ChannelGuard, Feature
from gateway.jobs.registry import Registry
from gateway.problem import Problem
from gateway.realtime.channel import Channel, Topic

log = structlog.get_logger(__name__)

_GUARD_S: Final = 5.0


class ChannelAccess:
    """Asks the features' guards, by topic, for the one channel that is meant."""

    def __init__(self, guards: Mapping[Topic, Sequence[ChannelGuard]]) -> None:
        self._guards = guards

    async def demand(self, principal: Principal, channel: Channel) -> None:
        """Raises Problem 403 ``channel_forbidden``, also for a channel of nothing; 503 ``channel_not_checked`` when no
        guard admits and one could not tell."""
        doubt: Exception | None = None
        for guard in self._guards.get(channel.topic, ()):
            try:
                async with asyncio.timeout(_GUARD_S):
                    if await guard(principal, channel.id) is True:
                        return
            except Problem:  # what services say of what is not there, or not this caller's
                continue
            except Exception as error:  # noqa: BLE001  whatever it is, it does not admit
                log.warning("channel_not_checked", channel=str(channel), error=f"{type(error).__name__}: {error}")
                doubt = error
        if doubt is not None:
            message = f"It cannot be checked now whether you may listen to {channel}; try again"
            raise Problem(503, "channel_not_checked", message, headers={"Retry-After": "5"}) from doubt
        raise Problem(403, "channel_forbidden", f"There is no {channel}, or you may not listen to it")


def channel_access(features: Iterable[Feature], registry: Registry) -> ChannelAccess:
    """Guards of the features, and that of ``queue:{name}``: role viewer and above, or the scope admin:read."""

    async def may_watch_queue(principal: Principal, name: str) -> bool:
        return principal.sees_all and name in registry.queue_names

    guards: dict[Topic, list[ChannelGuard]] = {Topic.QUEUE: [may_watch_queue]}
    for feature in features:
        for topic, guard in feature.channels.items():
            guards.setdefault(topic, []).append(guard)
    return ChannelAccess(guards)
