"""What the elected leader does for all replicas, put together. Pure: nothing is connected to."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Final

from gateway import audit
from gateway.feature import Feature, Platform
from gateway.idempotency import prune_answers
from gateway.jobs.deadlines import EXPIRE_POLL_S, Deadlines
from gateway.jobs.duties import DAY_S, HOUR_S, Duty, in_batches, own_duties
from gateway.jobs.fleet import LOOK_S, FleetWatch
from gateway.jobs.groups import SWEEP_S, Groups
from gateway.jobs.history import LEVELS_S
from gateway.jobs.maintenance import Chore, Chores
from gateway.jobs.operations import POLL_S
from gateway.jobs.records import Records

_GROUPS_S: Final = 60.0


def common_chores(platform: Platform, records: Records, groups: Groups, features: Iterable[Feature]) -> Chores:
    """All but those of the engine's keeper and of realtime."""
    pool = platform.pool
    return (
        *(chore for feature in features for chore in feature.chores),
        Chore("expire", EXPIRE_POLL_S, Deadlines(pool).expire),
        Chore("groups", SWEEP_S, groups.sweep),
        Chore("group starts", _GROUPS_S, groups.prune),
        Chore("operations", POLL_S, platform.inspector.operations.work),
        Chore("history", LEVELS_S, platform.inspector.history.levels),
        platform.inspector.history.duty(),
        Chore("fleet", LOOK_S, FleetWatch(records).look),
        Duty("prune answers", "Deletes answers kept for Idempotency-Key.", HOUR_S, partial(prune_answers, pool)),
        *_audit(platform),
        *own_duties(pool),
    )


def _audit(platform: Platform) -> tuple[Duty, ...]:
    days = platform.settings.audit_retention_days
    if not days:
        return ()
    run = partial(in_batches, platform.pool, audit.SQL["audit_prune"], float(days * DAY_S))
    return (Duty("prune audit", f"Deletes rows of the audit trail after {days} days.", DAY_S, run),)
