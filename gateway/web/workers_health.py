"""How the workers of all replicas stand, for a machine that watches (``Authorization: Bearer <CRON_SECRET>``)."""

from __future__ import annotations

from typing import Any, Final

from litestar import get

from gateway.access import MACHINE
from gateway.feature import ThePlatform

WORKERS_HEALTH_PATH: Final = "/api/v1/workers/health"


@get(WORKERS_HEALTH_PATH, opt={"access": MACHINE}, tags=["machines"], summary="Queues, and who works on them")
async def workers_health(platform: ThePlatform) -> dict[str, Any]:
    """``status`` is ok while every queue has a slot of a replica that lives and does not drain; else degraded, and
    ``unattended`` names the queues that have none."""
    engine = platform.engine
    replicas = [replica for replica in await engine.replicas() if not replica.draining]
    counts = await engine.all_counts()
    queues, unattended = {}, []
    for name, count in counts.items():
        slots = [replica.slots[name] for replica in replicas if name in replica.slots]
        queues[name] = {
            "waiting": count.waiting,
            "active": count.active,
            "delayed": count.delayed,
            "failed": count.failed,
            "slots": sum(slot["slots"] for slot in slots),
            "busy": sum(slot["busy"] for slot in slots),
        }
        if not queues[name]["slots"]:
            unattended.append(name)
    data = {
        "status": "degraded" if unattended else "ok",
        "mode": engine.mode,
        "replicas": len(replicas),
        "unattended": unattended,
        "queues": queues,
    }
    return {"success": True, "data": data}
