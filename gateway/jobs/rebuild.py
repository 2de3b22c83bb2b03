"""Telling Redis a whole queue again: after it forgot, or because somebody asks for it."""

from __future__ import annotations

import structlog

from gateway.jobs.job import PRIORITY_MAX, PRIORITY_MIN
from gateway.jobs.redis_broker import RedisBroker
from gateway.jobs.store import Store

log = structlog.get_logger(__name__)

_PAGE = 5000


async def rebuild(store: Store, redis: RedisBroker, queue: str) -> int:
    """Offer every waiting job of a queue, next in line first. Answers how many. Raises ``BrokerDown``.

    Safe at any time: what Redis knows already stays as it is, and claiming decides what runs (no job runs twice).
    """
    told = 0
    for priority in range(PRIORITY_MAX, PRIORITY_MIN - 1, -1):
        after = 0
        while page := await store.waiting_page(queue, priority, after, _PAGE):
            await redis.offer(page)
            told, after = told + len(page), page[-1].seq
    await redis.mark_told(queue)
    log.info("queue_rebuilt", queue=queue, jobs=told)
    return told
