"""This machine: room on the disk, open files, and whether a stop leaves jobs the time they need."""

from __future__ import annotations

import resource
import shutil
import tempfile
from typing import TYPE_CHECKING

from gateway.cli.doctor.findings import Finding, ok, warning

if TYPE_CHECKING:
    from gateway.settings import Settings

_FREE_MIN_BYTES = 1_000_000_000
_FREE_MIN_PERCENT = 5
_FILES_BESIDE = 1024  # HTTP clients, sockets of browsers, logs


async def examine(settings: Settings) -> list[Finding]:
    return [_disk(), _open_files(settings), _grace(settings)]


def _disk() -> Finding:
    place = tempfile.gettempdir()
    usage = shutil.disk_usage(place)
    return room(place, usage.free, usage.total)


def room(place: str, free: int, total: int) -> Finding:
    """Bytes. A container's own /tmp may be smaller than what is little elsewhere: half of it is enough there."""
    seen = f"{free / 1e9:.1f} GB of {total / 1e9:.1f} GB are free at {place}"
    if free < min(_FREE_MIN_BYTES, total / 2) or free * 100 < total * _FREE_MIN_PERCENT:
        return warning("disk", seen, "Make room: logs and temporary files need it. The jobs are in PostgreSQL.")
    return ok("disk", seen)


def _open_files(settings: Settings) -> Finding:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = _FILES_BESIDE + settings.database_pool_size + settings.smtp_pool_size
    seen = f"{limit} open files are allowed" if limit != resource.RLIM_INFINITY else "any number of open files"
    if limit != resource.RLIM_INFINITY and limit < needed:
        todo = f"Allow {needed} or more: LimitNOFILE= in the unit, ulimits: in compose, ulimit -n in a shell."
        return warning("open files", seen, todo)
    return ok("open files", seen)


def _grace(settings: Settings) -> Finding:
    longest_s = max(settings.email_timeout_ms, settings.orchestration_timeout_ms) / 1000
    grace_s = settings.shutdown_grace_s
    seen = f"a stop waits {grace_s} s for jobs; the longest may take {longest_s:g} s"
    if settings.runs_workers and grace_s < longest_s:
        todo = "Jobs that are cut go back to their queue and begin again. Raise SHUTDOWN_GRACE_S (and the limit of the "
        return warning("grace", seen, f"{todo}process manager) if that is dear.")
    return ok("grace", seen)
