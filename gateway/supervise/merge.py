"""The metrics of all processes as one exposition: each process's own numbers under its number, each number of the
whole installation once.

Sums would fall when a process ends, which reads as a counter that began anew; under ``process`` each counter is one
process's. ``sum by (queue) (rate(gateway_jobs_total[5m]))`` is right with any number of processes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.samples import Sample

LABEL: Final = "process"

OF_ALL: Final = frozenset({
    "gateway_project_budgets",
    "gateway_queue_depth",
    "gateway_queue_oldest_waiting_seconds",
    "gateway_queue_startable_seconds",
    "gateway_replicas_odd",
    "gateway_workers",
    "queue_demand_slots",
    "queue_open_jobs",
    "queue_paused",
    "queue_rate_limit_per_second",
    "queue_rate_limit_used_ratio",
    "queue_rate_limited_jobs",
    "queue_useful_replicas",
})  # fmt: skip
"""Gauges of the whole installation: each process says the same, a few seconds older or younger."""

Labels = tuple[tuple[str, str], ...]


def merged(texts: Mapping[str, str], extra: Iterable[Metric] = ()) -> bytes:
    """``texts``: expositions by process. Of a gauge in ``OF_ALL`` the highest value counts. Raises ValueError for what
    is no exposition of Prometheus."""
    families: dict[str, Metric] = {}
    highest: dict[str, dict[Labels, float]] = {}
    for process, text in sorted(texts.items()):
        for family in text_string_to_metric_families(text):
            into = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            if family.name in OF_ALL:
                _keep_highest(highest.setdefault(family.name, {}), family.samples)
            else:
                into.samples.extend(_labelled(family.samples, process))
    for name, values in highest.items():
        families[name].samples.extend(Sample(name, dict(labels), value) for labels, value in values.items())
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families([*families.values(), *extra]))
    return generate_latest(registry)


def _keep_highest(kept: dict[Labels, float], samples: Iterable[Sample]) -> None:
    for sample in samples:
        labels = tuple(sorted(sample.labels.items()))
        kept[labels] = max(sample.value, kept.get(labels, sample.value))


def _labelled(samples: Iterable[Sample], process: str) -> Iterator[Sample]:
    return (Sample(sample.name, {**sample.labels, LABEL: process}, sample.value) for sample in samples)


class _Families(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Metric]:
        return self._families
