"""What is odd about the live replicas as a whole: seen by none of them alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Final

import msgspec
import structlog

from gateway.jobs.records import Records, Replica

log = structlog.get_logger(__name__)

LOOK_S: Final = 5.0
_NAMES_MAX: Final = 5  # that a sentence names


class Oddity(StrEnum):
    DOUBLE_CONSUMERS = "double_consumers"
    MIXED_VERSIONS = "mixed_versions"
    MIXED_SETTINGS = "mixed_settings"
    MIXED_MODES = "mixed_modes"


class Odd(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """``message``: what is seen, and what to do. ``replicas``: the ids of those that it is about, sorted."""

    kind: Oddity
    message: str
    replicas: list[str]


def oddities(replicas: Sequence[Replica]) -> list[Odd]:
    """At most one of each kind. Replicas that drain are on their way out and are left out. Pure."""
    staying = [replica for replica in replicas if not replica.draining]
    found = (_double_consumers(staying), _versions(staying), _settings(staying), _modes(staying))
    return [odd for odd in found if odd is not None]


def _double_consumers(replicas: Sequence[Replica]) -> Odd | None:
    """Workers inside of API processes beside dedicated ones, on the same queue (traps.md T36). Allowed, and often not
    meant: the API's share of the slots is where nobody looks for it."""
    dedicated = {queue for replica in replicas if replica.role == "worker" for queue in replica.slots}
    inside = [r for r in replicas if r.role != "worker" and dedicated.intersection(r.slots)]
    if not inside:
        return None
    queues = sorted({queue for replica in inside for queue in dedicated.intersection(replica.slots)})
    message = (
        f"Beside dedicated workers, {_many(len(inside))} with the API take jobs of {', '.join(queues)} too. If that is "
        "not meant, set DISABLE_BACKGROUND_WORKERS=true (or GATEWAY_ROLE=api) there."
    )
    return Odd(kind=Oddity.DOUBLE_CONSUMERS, message=message, replicas=sorted(replica.id for replica in inside))


def _versions(replicas: Sequence[Replica]) -> Odd | None:
    by_version = _grouped((replica.version, replica.id) for replica in replicas)
    if len(by_version) < 2:
        return None
    message = (
        f"Versions {_counted(by_version)} run side by side. That is right while a new one is rolled out; "
        "afterwards stop what was left behind."
    )
    return Odd(kind=Oddity.MIXED_VERSIONS, message=message, replicas=_fewest(by_version))


def _settings(replicas: Sequence[Replica]) -> Odd | None:
    """A setting that a replica does not announce is not compared: it is another version's, or has no use there."""
    values: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for replica in replicas:
        for name, value in replica.configuration.items():
            values[name].append((value, replica.id))
    different = {name: by for name, pairs in sorted(values.items()) if len(by := _grouped(pairs)) > 1}
    if not different:
        return None
    told = "; ".join(f"{name} is {_counted(by)}" for name, by in list(different.items())[:_NAMES_MAX])
    more = f"; and {len(different) - _NAMES_MAX} more" if len(different) > _NAMES_MAX else ""
    fewest = sorted({replica for by in different.values() for replica in _fewest(by)})
    message = f"Replicas have different settings: {told}{more}. Give all the same environment."
    return Odd(kind=Oddity.MIXED_SETTINGS, message=message, replicas=fewest)


def _modes(replicas: Sequence[Replica]) -> Odd | None:
    by_mode = _grouped((replica.mode, replica.id) for replica in replicas)
    if len(by_mode) < 2:
        return None
    message = (
        f"Some replicas dispatch by Redis, some by PostgreSQL ({_counted(by_mode)}). No job is lost or done twice; "
        "the latter cannot reach Redis, or have none set."
    )
    return Odd(kind=Oddity.MIXED_MODES, message=message, replicas=sorted(by_mode.get("direct", [])))


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    grouped: defaultdict[str, list[str]] = defaultdict(list)
    for value, replica in pairs:
        grouped[value].append(replica)
    return dict(sorted(grouped.items()))


def _counted(grouped: dict[str, list[str]]) -> str:
    """``1.0 (on 2), 1.1 (on 1)``."""
    shown = [f"{value} (on {len(ids)})" for value, ids in list(grouped.items())[:_NAMES_MAX]]
    return ", ".join(shown) + (" ..." if len(grouped) > _NAMES_MAX else "")


def _fewest(grouped: dict[str, list[str]]) -> list[str]:
    """All but the replicas with the commonest value."""
    common = max(grouped.values(), key=len)
    return sorted(replica for ids in grouped.values() if ids is not common for replica in ids)


def _many(number: int) -> str:
    return "1 replica" if number == 1 else f"{number} replicas"


class FleetWatch:
    """A chore: logs what is odd, once, and when it is over."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._told: dict[Oddity, str] = {}

    async def look(self) -> None:
        seen = {odd.kind: odd for odd in oddities(await self._records.replicas())}
        for kind, odd in seen.items():
            if self._told.get(kind) != odd.message:
                log.warning(kind.value, seen=odd.message, replicas=odd.replicas)
        for kind in self._told.keys() - seen.keys():
            log.info("fleet_even_again", kind=kind.value)
        self._told = {kind: odd.message for kind, odd in seen.items()}
