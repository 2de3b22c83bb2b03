"""What a mail holds, byte by byte: its HTML for a frame, its source, its files."""

from __future__ import annotations

import asyncio
from typing import Final
from uuid import UUID

from gateway.pages import Asked, Raw
from gateway.problem import Problem
from gateway.services.email import message
from gateway.services.email.pages.preview import asks_for_images, preview
from gateway.services.email.pages.store import MailReader
from gateway.services.email.service import not_found
from gateway.services.email.store import MailStore

TEXT: Final = "text/plain; charset=utf-8"
_POSITION_MAX: Final = 32_767  # smallint


def mail_id_of(asked: Asked) -> UUID:
    """Raises Problem 404."""
    try:
        return UUID(asked.path["mail_id"])
    except ValueError:
        raise not_found(asked.path["mail_id"]) from None


class ContentPages:
    """Pages without a frame around them; for those only who may read content."""

    def __init__(self, store: MailStore, reader: MailReader) -> None:
        self._store = store
        self._reader = reader

    async def body(self, asked: Asked) -> Raw:
        mail_id = mail_id_of(asked)
        html, _ = await self._store.bodies(mail_id)
        if html is None:
            raise Problem(404, "not_found", "There is no such mail, or it has no HTML")
        images = await self._reader.images(mail_id)
        return await asyncio.to_thread(preview, html, images, outside=asks_for_images(asked.query))

    async def source(self, asked: Asked) -> Raw:
        """As it goes to the server, without the blind copies, which stand in the envelope alone."""
        return Raw(content=await self.message(mail_id_of(asked)), media_type=TEXT)

    async def attachment(self, asked: Asked) -> Raw:
        mail_id, position = mail_id_of(asked), asked.path["position"]
        digits = position.isascii() and position.isdigit() and len(position) <= 5 and int(position) <= _POSITION_MAX
        file = await self._reader.attachment(mail_id, int(position)) if digits else None
        if file is None:
            raise Problem(404, "not_found", "This mail has no such file")
        # Not as what it says it is: a browser that shows it would show what a stranger wrote.
        return Raw(content=file.content, media_type="application/octet-stream", filename=file.filename)

    async def message(self, mail_id: UUID) -> bytes:
        """Raises Problem 404, and 409 ``not_buildable`` for a mail whose rows were changed by hand."""
        found = await self._store.get(mail_id, None)
        if found is None:
            raise not_found(mail_id)
        mail, headers = found
        html, text = await self._store.bodies(mail_id)
        parts = message.Mail(
            message_id=mail.message_id,
            from_address=mail.sender,
            to=mail.to,
            cc=mail.cc,
            reply_to=mail.reply_to,
            subject=mail.subject,
            date=mail.created_at,
            html=html,
            text=text,
            headers=headers,
            attachments=await self._reader.attachments(mail_id),
        )
        try:
            return await asyncio.to_thread(message.build, parts)
        except ValueError as error:
            raise Problem(409, "not_buildable", f"No message can be made of this mail: {error}") from None
