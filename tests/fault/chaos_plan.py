"""What a seed means: the shape of one run, and which faults it makes when. Pure: a seed always draws the same plan.

A change of this file gives every seed another meaning; ``chaos.SEEDS`` says for which drawing its seeds failed.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Final

LEASE_S: Final = 3.0
EVERYWHERE: Final = -1  # the fault of a link strikes every gateway's

# How long a fault lasts (least, most; seconds). ``freeze`` outlasts the lease, ``block`` does not. A killed or stopped
# server is away as long; what strikes at once lasts no time.
_PROCESS: Final = {"kill": (0.0, 1.5), "terminate": (0.0, 1.0), "freeze": (LEASE_S + 1, LEASE_S + 3), "block": (1, 2.5)}
_LINK: Final = {"cut": (0.0, 0.0), "down": (0.5, 5), "stall": (0.5, 5), "half_open": (0.5, 5), "delay": (1, 5)}
_POSTGRES: Final = {"postgres_restart": (0.0, 2), "postgres_kill": (0.0, 2)}
_VALKEY: Final = {
    "valkey_flush": (0.0, 0.0),
    "valkey_restart": (0.0, 3),
    "valkey_kill": (0.0, 4),
    "valkey_freeze": (1, 4),
}
_SMTP: Final = {
    "smtp_4xx": (0.5, 3),
    "smtp_5xx": (0.5, 3),
    "smtp_421": (0.2, 1),
    "smtp_hang": (0.5, 2),
    "smtp_cut_after_data": (0.5, 3),
}


@dataclass(frozen=True)
class Fault:
    """``slot``: which gateway (``EVERYWHERE``: all). ``harsh``: a link's connections break when its fault ends, so that
    what was held back is lost, else it arrives late; Valkey starts again without its append-only file, else with it."""

    at_s: float
    name: str
    slot: int
    lasts_s: float
    harsh: bool

    def __str__(self) -> str:
        where = "all" if self.slot == EVERYWHERE else f"gateway {self.slot}"
        return f"{self.at_s:.1f} {self.name} {where} {self.lasts_s:.1f} s{' harsh' if self.harsh else ''}"


@dataclass(frozen=True)
class Plan:
    """``rate_max`` starts in ``rate_ms``. ``answer_s``: how long the mail server takes for a mail: so long it is in the
    hands of a process that may be struck. ``patient``: jobs outlive any number of stalls and many failures; else the
    product's defaults decide, and mails may honestly fail."""

    seed: int
    mode: str
    gateways: int
    appendonly: bool
    patient: bool
    rate_max: int
    rate_ms: int
    customers: int
    seconds: float
    answer_s: float
    burst: int
    faults: tuple[Fault, ...]

    @property
    def settings(self) -> dict[str, str]:
        """The gateways' settings, by environment name."""
        return {
            "EMAIL_RATE_MAX": str(self.rate_max),
            "EMAIL_RATE_DURATION_MS": str(self.rate_ms),
            "EMAIL_TIMEOUT_MS": "8000",
            "SMTP_TIMEOUT_S": "2",
            "COMPLETED_RETENTION_COUNT": "100000",  # what is pruned cannot be audited
            **({"EMAIL_ATTEMPTS": "8", "MAX_STALLED_COUNT": "50"} if self.patient else {}),
        }

    @property
    def max_stalls(self) -> int:
        return 50 if self.patient else 2


def draw(seed: int, *, seconds: float = 12.0, faults: int = 8, burst: int = 100) -> Plan:
    """``seconds`` of load, with ``faults`` faults in its first nine tenths; they may overlap. ``burst``: mails of the
    batch after them; 100, the most of one batch, are at least three seconds' work, so that an order can be seen."""
    rng = random.Random(seed)
    mode = rng.choice(["queue", "queue", "queue", "direct"])
    gateways = rng.choice([2, 2, 3])
    drawn: list[Fault] = []
    for _ in range(faults):
        name, lasts = rng.choice(_menu(rng.choice(_families(mode))))
        slot = rng.choice([EVERYWHERE, *range(gateways)]) if "link" in name else rng.randrange(gateways)
        length = round(rng.uniform(*lasts), 2)
        drawn.append(Fault(round(rng.uniform(0.5, seconds * 0.9), 2), name, slot, length, rng.random() < 0.5))
    rate_max, rate_ms = rng.choice([(25, 1000), (15, 500), (8, 250)])
    return Plan(
        seed=seed,
        mode=mode,
        gateways=gateways,
        appendonly=rng.random() < 0.5,
        patient=rng.random() < 0.75,
        rate_max=rate_max,
        rate_ms=rate_ms,
        customers=rng.choice([3, 4, 6]),
        seconds=seconds,
        faults=tuple(sorted(drawn, key=lambda fault: fault.at_s)),
        answer_s=rng.choice([0.02, 0.2, 0.4]),
        burst=burst,
    )


Menu = list[tuple[str, tuple[float, float]]]


def _families(mode: str) -> list[dict[str, Any]]:
    """Each family is as likely as the others, whatever its size."""
    valkey = [_VALKEY, _links("valkey")] if mode == "queue" else []
    return [_PROCESS, _PROCESS, _POSTGRES, _links("postgres"), _links("smtp"), _SMTP, *valkey]


def _links(link: str) -> dict[str, Any]:
    return {f"{link}_link_{kind}": lasts for kind, lasts in _LINK.items()}


def _menu(family: dict[str, Any]) -> Menu:
    return list(family.items())
