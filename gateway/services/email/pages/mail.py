"""``/admin/queues/emails/{id}``: one mail with all that is known of it, a part of it in each tab."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID, uuid4

import msgspec

from gateway.jobs.job import JobState
from gateway.masking import masked
from gateway.pages import Asked, Related, View
from gateway.problem import Problem
from gateway.services.email.pages.check import checks
from gateway.services.email.pages.content import ContentPages, mail_id_of
from gateway.services.email.pages.preview import asks_for_images
from gateway.services.email.pages.store import Beginning, Beside, MailReader
from gateway.services.email.pages.timeline import steps_of
from gateway.services.email.queue import EMAIL_QUEUE
from gateway.services.email.schemas import OPEN_STATUSES, AttachmentView, MailSummary
from gateway.services.email.service import not_found
from gateway.services.email.store import MailStore

SHOWN_MAX: Final = 200_000  # characters of a text or a source on a page; its own address has all
SOURCE_MAX: Final = 1_000_000  # bytes of bodies and files; a larger source has only an address of its own
TABS: Final = ("html", "text", "source", "headers", "attachments", "attempts", "check")
QUERY: Final = ("tab", "images")
_CANCELLABLE: Final = frozenset({"scheduled", "pending"})


class MailPage:
    def __init__(self, store: MailStore, reader: MailReader, content: ContentPages) -> None:
        self._store = store
        self._reader = reader
        self._content = content

    async def show(self, asked: Asked) -> View:
        mail_id = mail_id_of(asked)
        found, beside = await self._store.get(mail_id, None), await self._reader.beside(mail_id)
        if found is None or beside is None:
            raise not_found(mail_id)
        mail, headers = found
        tab = _tab(asked, beside)
        events = await self._reader.events(mail_id)
        files = await self._store.attachment_views(mail_id)
        data = {
            "mail": msgspec.structs.replace(mail, metadata=masked(mail.metadata, content=asked.user.reads_content)),
            "beside": beside,
            "recipients": await self._store.recipients(mail_id),
            "events": events,
            "attempts": await self._reader.attempts(mail_id),
            "attachments": files,
            "headers": _headers(mail, headers),
            "checks": checks(beside, headers, mail.subject),
        }
        extra = {
            "steps": steps_of(mail, events),
            "tab": tab,
            "tabs": _tabs(tab, files, beside),
            "path": f"/emails/{mail_id}",
            "may_read": asked.user.reads_content,
            "images": asks_for_images(asked.query),
            "shown": await self._shown(mail_id, tab, beside) if asked.user.reads_content else None,
            "once": uuid4().hex,
            "to": ", ".join(mail.to),
            "queue": EMAIL_QUEUE,
            **_doable(mail, beside),
        }
        topics = [f"queue:{EMAIL_QUEUE}"]
        return View(template="email.html", title=f"E-mail {str(mail_id)[:8]}", data=data, extra=extra, topics=topics)

    async def _shown(self, mail_id: UUID, tab: str, beside: Beside) -> Beginning | None:
        """Of the tab's text; None when it has none, or a source that takes long to make."""
        if tab == "text":
            return await self._reader.text(mail_id, SHOWN_MAX)
        if tab == "source" and (beside.html_bytes or 0) + (beside.text_bytes or 0) + beside.files_bytes <= SOURCE_MAX:
            source = (await self._content.message(mail_id)).decode("ascii", "replace")
            return Beginning.of(source.replace("\r\n", "\n"), SHOWN_MAX)
        return None

    async def about_job(self, job_id: UUID) -> Sequence[Related]:
        found = await self._reader.of_job(job_id)
        if found is None:
            return []
        mail_id, subject = found
        return [Related(word="E-mail", path=f"/emails/{mail_id}", text=subject or str(mail_id))]


def _tab(asked: Asked, beside: Beside) -> str:
    """Raises Problem 400."""
    tab = asked.query.get("tab")
    if tab is None:
        return "html" if beside.html_bytes is not None else "text"
    if tab not in TABS:
        message = f"must be one of {', '.join(TABS)}"
        raise Problem(400, "validation_error", f"tab: {message}", details=[{"field": "tab", "message": message}])
    return tab


def _tabs(chosen: str, files: list[AttachmentView], beside: Beside) -> list[dict[str, Any]]:
    counts = {"attachments": len(files)}
    return [
        {
            "name": name,
            "word": "HTML" if name == "html" else name.capitalize(),
            "count": counts.get(name),
            "chosen": name == chosen,
        }
        for name in TABS
        if name != "html" or beside.html_bytes is not None
    ]


def _headers(mail: MailSummary, own: dict[str, str]) -> list[tuple[str, str]]:
    """As a reader's program shows them, and the blind copies, which no reader sees."""
    shown = [
        ("From", mail.sender),
        ("To", ", ".join(mail.to)),
        ("Cc", ", ".join(mail.cc)),
        ("Bcc (not sent)", ", ".join(mail.bcc)),
        ("Reply-To", ", ".join(mail.reply_to)),
        ("Subject", mail.subject),
        ("Message-ID", mail.message_id),
        *masked(own, content=True).items(),
    ]
    return [(name, value) for name, value in shown if value]


def _doable(mail: MailSummary, beside: Beside) -> dict[str, bool]:
    """Buttons exist only when they can work."""
    ended = mail.status not in OPEN_STATUSES
    return {
        "may_cancel": mail.status in _CANCELLABLE,
        "may_retry": beside.job_state == JobState.FAILED,
        "may_resend": ended and beside.content_removed_at is None,
    }
