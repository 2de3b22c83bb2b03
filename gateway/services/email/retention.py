"""What is removed of mails that have ended: first bodies and files, later everything."""

from __future__ import annotations

from functools import partial
from typing import Final

import asyncpg

from gateway.jobs.duties import DAY_S, HOUR_S, Duty, in_batches
from gateway.services.email.store import SQL
from gateway.settings import Settings

_OFFSET_S: Final = 20 * 60  # apart from what others do on the hour
_BATCH: Final = 50  # mails: each may have 10 MB of files, and a statement ends within 30 s or has done nothing


def mail_duties(pool: asyncpg.Pool[asyncpg.Record], settings: Settings) -> tuple[Duty, ...]:
    """Those that the settings ask for. A mail that is open, may have arrived (unknown), or whose job can be tried again
    is never touched, however old it is."""
    content, mails = settings.email_content_retention_days, settings.email_retention_days
    duties = []
    if content:
        run = partial(in_batches, pool, SQL["remove_content"], float(content * DAY_S), batch=_BATCH)
        does = f"Removes bodies and files of mails that ended, {content} days after they came."
        duties.append(Duty("remove e-mail content", does, HOUR_S, run, _OFFSET_S))
    if mails:
        run = partial(in_batches, pool, SQL["prune_mails"], float(mails * DAY_S), batch=_BATCH)
        does = f"Deletes mails that ended, {mails} days after they came."
        duties.append(Duty("prune e-mails", does, HOUR_S, run, _OFFSET_S))
    return tuple(duties)
