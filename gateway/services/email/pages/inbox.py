"""``/admin/queues/inbox``: what the development mail server caught, and its way out."""

from __future__ import annotations

import asyncio
from typing import Final

from gateway.access import Scope
from gateway.pages import Action, Asked, Done, Entry, Page, Raw, View
from gateway.problem import Problem
from gateway.services.email.caught import Caught, Inbox, NotReleased, files_of
from gateway.services.email.message import Attachment
from gateway.services.email.pages.content import TEXT
from gateway.services.email.pages.mail import SHOWN_MAX
from gateway.services.email.pages.preview import asks_for_images, preview
from gateway.services.email.pages.store import Beginning
from gateway.services.email.queue import EMAIL_QUEUE
from gateway.services.email.smtp_url import FORM

PATH: Final = "/inbox"
PLACE: Final = "inbox"
ENTRY: Final = Entry(place=PLACE, path=PATH, word="Inbox")
SHOWN: Final = 200
NOTICES: Final = {"released": "Released: the server took it for its recipients."}
HOW: Final = f"Start gateway dev with SMTP_URL set to release caught mails: {FORM}"


class InboxPages:
    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    @property
    def pages(self) -> tuple[Page, ...]:
        one = f"{PATH}/{{mail_id:str}}"
        return (
            Page(path=PATH, place=PLACE, load=self.overview),
            Page(path=one, place=PLACE, load=self.show, query=("images",), content=True),
            Page(path=f"{one}/body", place=PLACE, load=self.body, query=("images",), content=True),
            Page(path=f"{one}/source", place=PLACE, load=self.source, content=True),
            Page(path=f"{one}/files/{{position:str}}", place=PLACE, load=self.file, content=True),
        )

    @property
    def actions(self) -> tuple[Action, ...]:
        return (Action(path=f"{PATH}/{{mail_id:str}}/release", act=self.release, access=Scope.ADMIN_OPERATE),)

    async def overview(self, asked: Asked) -> View:
        caught = self._inbox.messages()
        released = {mail.id: self._inbox.released(mail.id) for mail in caught[:SHOWN]}
        data = {"mails": caught[:SHOWN], "total": len(caught), "released": released}
        return View(template="inbox.html", title="Inbox", data=data, topics=[f"queue:{EMAIL_QUEUE}"], again_s=10)

    async def show(self, asked: Asked) -> View:
        mail_id = asked.path["mail_id"]
        mail, files = await self._read(mail_id)
        data = {
            "mail": mail,
            "released": self._inbox.released(mail_id),
            "server": self._inbox.server,
            "files": [
                {"filename": file.filename, "contentType": file.content_type, "size": len(file.content)}
                for file in files
            ],
        }
        extra = {
            "path": f"{PATH}/{mail_id}",
            "images": asks_for_images(asked.query),
            "how": HOW,
            "text": Beginning.of(mail.text or "", SHOWN_MAX),
            "source": Beginning.of(mail.raw.replace("\r\n", "\n"), SHOWN_MAX),
        }
        return View(template="caught.html", title=f"Caught mail {mail_id}", data=data, extra=extra)

    async def body(self, asked: Asked) -> Raw:
        mail, files = await self._read(asked.path["mail_id"])
        if mail.html is None:
            raise Problem(404, "not_found", "This mail has no HTML")
        images = [file for file in files if file.content_type.startswith("image/")]
        return await asyncio.to_thread(preview, mail.html, images, outside=asks_for_images(asked.query))

    async def source(self, asked: Asked) -> Raw:
        return Raw(content=self._source(asked.path["mail_id"]), media_type=TEXT)

    async def file(self, asked: Asked) -> Raw:
        files = await asyncio.to_thread(files_of, self._source(asked.path["mail_id"]))
        position = asked.path["position"]
        if not (position.isascii() and position.isdigit() and len(position) <= 5 and int(position) < len(files)):
            raise Problem(404, "not_found", "This mail has no such file")
        file = files[int(position)]
        return Raw(content=file.content, media_type="application/octet-stream", filename=file.filename)

    async def release(self, asked: Asked) -> Done:
        mail_id = asked.path["mail_id"]
        self._source(mail_id)
        try:
            released = await self._inbox.release(mail_id)
        except NotReleased as refusal:
            raise Problem(409, "not_released", f"This mail was not released: {refusal}") from None
        change = ("inbox.release", mail_id, {"server": released.server, "reply": released.reply})
        return Done(path=f"{PATH}/{mail_id}", notice="released", change=change)

    async def _read(self, mail_id: str) -> tuple[Caught, list[Attachment]]:
        """In a thread: a mail can have many megabytes. Raises Problem 404."""
        raw = self._source(mail_id)
        try:
            return await asyncio.to_thread(self._inbox.get, mail_id), await asyncio.to_thread(files_of, raw)
        except KeyError:  # pushed out meanwhile
            raise _gone(mail_id) from None

    def _source(self, mail_id: str) -> bytes:
        """Raises Problem 404."""
        try:
            return self._inbox.source(mail_id)
        except KeyError:
            raise _gone(mail_id) from None


def _gone(mail_id: str) -> Problem:
    return Problem(404, "not_found", f"The inbox has no mail {mail_id[:40]!r}, or not any more")
