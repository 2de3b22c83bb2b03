"""What the processes say of themselves: for ``status``, and for the metrics of all."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

import httpx
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families

from gateway.supervise import messages
from gateway.supervise.config import Ecosystem
from gateway.supervise.merge import LABEL, merged
from gateway.supervise.pool import Place, Pool
from gateway.supervise.process import Process
from gateway.supervise.pulse import silence_of

_TIMEOUT_S = 2.0
_READY_TIMEOUT_S = 1.5  # below child.READY_TIMEOUT_S


class Scrapes:
    """A process that does not answer in time is left out, as one that is down would be."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._busy_looking = asyncio.Lock()

    async def metrics(self) -> str:
        processes = tuple(self._pool.processes)
        texts = await self._texts(processes)
        found = {str(one.number): text for one, text in zip(processes, texts, strict=True) if text is not None}
        return merged(found, self._own()).decode()

    async def any_ready(self) -> bool:
        """Does a process that is on the shared port say that it is ready?"""
        asking = [asyncio.create_task(self._is_ready(process)) for process in self._pool.ready]
        try:
            for answer in asyncio.as_completed(asking):
                if await answer:
                    return True
            return False
        finally:
            for one in asking:
                one.cancel()

    async def _is_ready(self, process: Process) -> bool:
        try:
            url = f"{process.url}/health/ready"
            answer = await self._pool.client.get(url, timeout=_READY_TIMEOUT_S, headers={"Connection": "close"})
        except httpx.TransportError:
            return False
        return answer.is_success

    async def look(self) -> dict[str, int]:
        """Refresh ``busy`` and ``slots`` of all processes; answers waiting jobs by queue."""
        processes = tuple(self._pool.processes)
        waiting: dict[str, int] = {}
        for process, text in zip(processes, await self._texts(processes), strict=True):
            if text is None:
                process.busy = process.slots = None
            else:
                _read(process, text, waiting)
        return waiting

    async def processes(self) -> tuple[list[messages.Process], dict[str, int]]:
        """All places and draining processes, by number; waiting jobs by queue."""
        waiting = await self.look()
        places = {place.process: place for place in self._pool.places if place.process is not None}
        found = [_shown(process, places.get(process), self._pool.plan.ecosystem) for process in self._pool.processes]
        found.sort(key=lambda one: one.number)
        return found + [_absent(place) for place in self._pool.places if place.process is None], waiting

    async def _texts(self, processes: Sequence[Process]) -> list[str | None]:
        return await asyncio.gather(*(self._text(process) for process in processes))

    async def _text(self, process: Process) -> str | None:
        try:
            # A connection that is kept would hold up the end of a process that drains.
            answer = await self._pool.client.get(
                f"{process.url}/metrics", timeout=_TIMEOUT_S, headers={"Connection": "close"}
            )
        except httpx.TransportError:
            return None
        return answer.text if answer.is_success else None

    def _own(self) -> Iterable[Metric]:
        pool = self._pool
        states = GaugeMetricFamily("supervisor_processes", "Processes of this supervisor by state.", labels=["state"])
        for state in ("starting", "ready", "draining"):
            states.add_metric([state], sum(process.state == state for process in pool.processes))
        states.add_metric(["given_up"], sum(place.given_up for place in pool.places))
        yield states
        yield GaugeMetricFamily("supervisor_instances", "Processes that are wanted.", len(pool.places))
        yield CounterMetricFamily(
            "supervisor_frozen", "Processes that were ended as they gave no sign of life.", pool.frozen
        )
        yield CounterMetricFamily("supervisor_starts", "Processes that were started.", pool.started)
        rss = GaugeMetricFamily("supervisor_resident_bytes", "Resident memory of a process.", labels=[LABEL])
        cpu = CounterMetricFamily("supervisor_cpu_seconds", "Processor time of a process.", labels=[LABEL])
        for process in pool.processes:
            if process.usage is not None:
                rss.add_metric([str(process.number)], process.usage.rss_bytes)
                cpu.add_metric([str(process.number)], process.usage.cpu_s)
        yield from (rss, cpu)


def _read(process: Process, text: str, waiting: dict[str, int]) -> None:
    busy = slots = 0
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "gateway_worker_slots":
                slots += int(sample.value)
                busy += int(sample.value) if sample.labels["state"] == "busy" else 0
            elif sample.name == "gateway_queue_depth" and sample.labels["state"] == "waiting":
                queue = sample.labels["queue"]
                waiting[queue] = max(waiting.get(queue, 0), int(sample.value))
    process.busy, process.slots = busy, slots


def _shown(process: Process, place: Place | None, eco: Ecosystem) -> messages.Process:
    grown = place.growth.reason(process, eco) if place is not None else None
    return messages.Process(
        number=process.number,
        state=process.state.value,
        pid=process.pid,
        url=process.url,
        uptime_s=round(process.uptime_s, 1),
        restarts=place.restarts if place is not None else 0,
        rss_bytes=process.usage.rss_bytes if process.usage is not None else None,
        cpu_percent=None if process.cpu_percent is None else round(process.cpu_percent, 1),
        busy=process.busy,
        slots=process.slots,
        reason=silence_of(process) or grown,
    )


def _absent(place: Place) -> messages.Process:
    state = "given up" if place.given_up else "waiting"
    return messages.Process(
        number=0, state="given up" if state == "given up" else "waiting", restarts=place.restarts, reason=place.reason
    )
