"""``/admin/queues/emails``: the mails of everybody, newest first; the address holds the whole filter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

from gateway.pages import Asked, View
from gateway.problem import Problem
from gateway.services.email.addresses import split_name
from gateway.services.email.fields import ObjectReader, Problems, iso_instant
from gateway.services.email.listing import cursor_of, place_of, tag_of
from gateway.services.email.pages.store import Found, MailReader, Wanted
from gateway.services.email.queue import EMAIL_QUEUE
from gateway.services.email.schemas import STATUSES

PATH: Final = "/emails"
SHOWN: Final = 50
FILTERS: Final = ("status", "to", "tag", "q", "from", "until")
QUERY: Final = (*FILTERS, "cursor")
_TEXT_MAX: Final = 320
_NOTHING: Final = Found([], None, 0)


class ListPage:
    def __init__(self, reader: MailReader) -> None:
        self._reader = reader

    async def show(self, asked: Asked) -> View:
        """What was typed and cannot be understood is told beside the form, not as an error."""
        query, problem, found = asked.query, None, _NOTHING
        try:
            found = await self._reader.search(read_wanted(query), SHOWN)
        except Problem as wrong:
            if wrong.status != 400:
                raise
            problem = wrong.message
        kept = {name: query.get(name, "") for name in FILTERS}
        following = _address(query, cursor_of(*found.following)) if found.following is not None else None
        data = {"mails": found.mails, "filter": kept, "problem": problem, "older": following, "looked": found.looked}
        extra = {
            "newest": _address(query) if query.get("cursor") else None,
            "tabs": _tabs(query),
            "jobs": _jobs(query),
            "here": _address(query),
            "filtered": any(kept.values()),
            "further": len(found.mails) < SHOWN,
        }
        return View(template="emails.html", title="E-mails", data=data, extra=extra, topics=[f"queue:{EMAIL_QUEUE}"])


def read_wanted(query: Mapping[str, str]) -> Wanted:
    """Raises Problem 400 naming every wrong parameter."""
    problems = Problems()
    fields = ObjectReader({name: query[name] for name in QUERY if query.get(name)}, problems, known=QUERY)
    recipient, part = fields.text("to", _TEXT_MAX), fields.text("q", _TEXT_MAX)
    wanted = Wanted(
        status=fields.word("status", STATUSES),
        recipient=split_name(recipient)[1].lower() if recipient else None,
        tag=tag_of(fields.text("tag", _TEXT_MAX)),
        since=fields.parsed("from", iso_instant),
        until=fields.parsed("until", iso_instant),
        before=fields.parsed("cursor", place_of),
        part=part.lower() if part else None,
    )
    problems.raise_if_any()
    return wanted


def _tabs(query: Mapping[str, str]) -> list[dict[str, Any]]:
    chosen = query.get("status", "")
    others = {name: query[name] for name in FILTERS if query.get(name) and name != "status"}
    return [
        {
            "word": status.capitalize() or "All",
            "query": _joined(others | ({"status": status} if status else {})),
            "chosen": status == chosen,
        }
        for status in ("", *STATUSES)
    ]


def _jobs(query: Mapping[str, str]) -> str | None:
    """Where the jobs of failed mails can be retried together; None: not of these."""
    if query.get("status") != "failed" or query.get("q"):
        return None
    words = [f'{name}:"{query[name]}"' for name in ("to", "tag") if query.get(name)]
    kept = {name: query[name] for name in ("from", "until") if query.get(name)}
    return f"/queue/{EMAIL_QUEUE}{_joined({'status': 'failed', **({'q': ' '.join(words)} if words else {}), **kept})}"


def _address(query: Mapping[str, str], cursor: str | None = None) -> str:
    kept = {name: query[name] for name in FILTERS if query.get(name)}
    return _joined(kept | ({"cursor": cursor} if cursor else {}))


def _joined(query: Mapping[str, str]) -> str:
    return f"?{urlencode(query)}" if query else ""
