"""Pass by pass: scrape, decide, scale."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import httpx
import msgspec
import structlog

from gateway.autoscale.algorithm import Scaler
from gateway.autoscale.fleet import Fleet, ScaleFailed
from gateway.autoscale.signal import Scrape, Signal, proposals, read

log = structlog.get_logger(__name__)

SCRAPE_TIMEOUT_S = 5.0


class Pass(msgspec.Struct, frozen=True, kw_only=True):
    """What one pass saw and did. ``failed``: why the number could not be changed."""

    at: float
    answered: int
    wishes: list[int | None]
    before: int
    after: int
    failed: str | None = None


class Autoscaler:
    """``clock``: monotonic, in seconds; a faster one makes a trial shorter."""

    def __init__(self, fleet: Fleet, scaler: Scaler, signal: Signal, clock: Callable[[], float]) -> None:
        self._fleet = fleet
        self._scaler = scaler
        self._signal = signal
        self._clock = clock

    async def run(self, interval_s: float, told: Callable[[Pass], None]) -> None:
        """For ever; ``told`` hears of each pass."""
        async with httpx.AsyncClient(timeout=SCRAPE_TIMEOUT_S, trust_env=False) as client:
            while True:
                told(await self.once(client))
                await asyncio.sleep(interval_s)

    async def once(self, client: httpx.AsyncClient) -> Pass:
        await self._fleet.look()
        now, before, urls = self._clock(), self._fleet.size, list(self._fleet.urls)
        scrapes = await asyncio.gather(*(scrape(client, url) for url in urls))
        busy = {url: found.busy for url, found in zip(urls, scrapes, strict=True) if found is not None}
        wishes = proposals(self._signal, _complete(scrapes, before), before)
        # Nothing runs yet: the first pass starts the minimum. Later a 0 cannot be.
        wanted = self._scaler.decide(now, before, wishes) if before else self._scaler.minimum
        failed = None
        if wanted != before:
            try:
                await self._fleet.scale(wanted, busy)
            except ScaleFailed as error:
                if before:
                    self._scaler.not_made()
                failed, wanted = str(error), before
                log.error("scale_failed", reason=failed)
            else:
                log.info("scaled", before=before, after=wanted, wishes=wishes)
        return Pass(at=now, answered=len(busy), wishes=wishes, before=before, after=wanted, failed=failed)


def _complete(scrapes: Sequence[Scrape | None], size: int) -> Sequence[Scrape | None]:
    """Behind one address any replica answers for all: their shares are the same."""
    return scrapes if len(scrapes) >= size or len(scrapes) != 1 else [*scrapes] * size


async def scrape(client: httpx.AsyncClient, url: str) -> Scrape | None:
    """None: no answer, or none that can be read."""
    try:
        answer = await client.get(f"{url}/metrics")
        return read(answer.text) if answer.is_success else None
    except (httpx.TransportError, ValueError) as error:
        log.debug("not_scraped", url=url, error=str(error))
        return None
