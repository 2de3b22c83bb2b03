"""What replicas show at ``/metrics``, and the numbers of replicas that follow from it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Final

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from gateway.autoscale.algorithm import Sample, average, external

UTILIZATION: Final = 0.8  # of a replica's slots: the rest is for what comes meanwhile
WAITING_PER_REPLICA: Final = 50.0


class Signal(StrEnum):
    DEMAND = "demand"  # worker slots that each queue can use
    WAITING = "waiting"  # document 003: jobs that wait for a worker, for each replica


class Scrape(msgspec.Struct, frozen=True):
    """One replica, by queue. ``waiting``: its share; ``demand``: of the whole queue; ``slots``, ``busy``: its own."""

    waiting: dict[str, float]
    demand: dict[str, float]
    slots: dict[str, float]
    busy: float


def read(text: str) -> Scrape:
    """Raises ValueError for what is no exposition of Prometheus."""
    found = Scrape({}, {}, {}, 0.0)
    busy = 0.0
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            queue = sample.labels.get("queue", "")
            match sample.name:
                case "queue_waiting_jobs":
                    # Several processes behind one port show their shares; together they are this replica's.
                    found.waiting[queue] = found.waiting.get(queue, 0.0) + sample.value
                case "queue_demand_slots":
                    found.demand[queue] = sample.value
                case "gateway_worker_slots":
                    found.slots[queue] = found.slots.get(queue, 0.0) + sample.value
                    busy += sample.value if sample.labels["state"] == "busy" else 0.0
                case _:
                    pass
    return msgspec.structs.replace(found, busy=busy)


def proposals(signal: Signal, scrapes: Sequence[Scrape | None], current: int) -> list[int | None]:
    """One for each metric, None for one without an answer. ``scrapes``: None for a replica that did not answer."""
    if signal is Signal.WAITING:
        samples = [Sample(max(one.waiting.values()) if one and one.waiting else None) for one in scrapes]
        return [average(samples, WAITING_PER_REPLICA, current)]
    return _by_demand([one for one in scrapes if one], current)


def _by_demand(scrapes: Iterable[Scrape], current: int) -> list[int | None]:
    known, slots = dict[str, float](), dict[str, list[float]]()
    for scrape in scrapes:
        for queue, demand in scrape.demand.items():
            known[queue] = max(demand, known.get(queue, 0.0))  # the same in each replica: not a sum
        for queue, number in scrape.slots.items():
            slots.setdefault(queue, []).append(number)
    found: list[int | None] = [
        external(demand, UTILIZATION * sum(slots[queue]) / len(slots[queue]), current)
        for queue, demand in sorted(known.items())
        if sum(slots.get(queue, ()))
    ]
    return found or [None]
