"""Mails that the development mail server caught, as people read them. What came may be broken in any way. Pure."""

from __future__ import annotations

import email
from collections.abc import Iterator, Sequence
from datetime import datetime
from email import policy
from email.message import EmailMessage, Message
from typing import Any, Final, Protocol

import msgspec

from gateway.services.email.message import Attachment

# The standard library's parser of headers raises them for some that are broken.
BROKEN: Final = (ValueError, LookupError, AttributeError, TypeError)


class CaughtSummary(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """``to`` has the envelope's recipients, so blind copies are seen; ``from`` is the header's, as readers show it."""

    id: str
    from_: str = msgspec.field(name="from")
    to: list[str]
    subject: str
    received_at: datetime


class Caught(CaughtSummary, frozen=True, kw_only=True, rename="camel"):
    """``headers``: [name, value] in order, decoded. ``raw`` is the source as it came, undecodable bytes replaced."""

    headers: list[tuple[str, str]]
    text: str | None
    html: str | None
    raw: str


class Released(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A mail that went on to a real server after all. ``reply``: what that said."""

    at: datetime
    server: str
    reply: str


class Inbox(Protocol):
    """Where caught mails are kept. All raise KeyError for one that is not there, or not any more."""

    @property
    def server(self) -> str | None:
        """Where ``release`` sends to; None: nowhere."""
        ...

    def messages(self) -> list[CaughtSummary]:
        """Newest first."""
        ...

    def get(self, mail_id: str) -> Caught: ...

    def source(self, mail_id: str) -> bytes: ...

    def released(self, mail_id: str) -> Released | None: ...

    async def release(self, mail_id: str) -> Released:
        """Send it on to the recipients of its envelope. Raises ``NotReleased``."""
        ...


class NotReleased(Exception):
    """It was released before, there is no server, or that does not take it. The words are for people."""


def read_summary(mail_id: str, raw: bytes, sender: str, to: Sequence[str], received_at: datetime) -> CaughtSummary:
    message = _parse(raw)
    return CaughtSummary(
        id=mail_id,
        from_=_header(message, "from") or sound(sender),
        to=[sound(address) for address in to],
        subject=_header(message, "subject"),
        received_at=received_at,
    )


def read_caught(summary: CaughtSummary, raw: bytes) -> Caught:
    message = _parse(raw)
    return Caught(
        **{name: getattr(summary, name) for name in CaughtSummary.__struct_fields__},
        headers=[(sound(name), _decoded(message, name, value)) for name, value in message.raw_items()],
        text=_body(message, "text/plain"),
        html=_body(message, "text/html"),
        raw=raw.decode("utf-8", "replace"),
    )


def files_of(raw: bytes) -> list[Attachment]:
    """Attachments and images of a caught mail, in order."""
    return [
        Attachment(
            filename=sound(_filename(part) or "file"),
            content_type=part.get_content_type(),
            content=_bytes_of(part),
            content_id=sound(str(part.get("content-id", ""))).strip(" <>") or None,
        )
        for part in _leaves(_parse(raw))
        if _is_file(part)
    ]


def sound(text: str) -> str:
    """Without the halves of characters that the parser leaves for bytes it cannot decode."""
    return text.encode("utf-8", "replace").decode()


def _parse(raw: bytes) -> EmailMessage:
    return email.message_from_bytes(raw, policy=policy.default)


def _header(message: EmailMessage, name: str) -> str:
    """The first of this name; empty when there is none."""
    value = next((value for given, value in message.raw_items() if given.lower() == name), None)
    return "" if value is None else _decoded(message, name, value)


def _decoded(message: EmailMessage, name: str, value: Any) -> str:
    """As it came when it cannot be."""
    try:
        return sound(str(message.policy.header_fetch_parse(name, value)))
    except BROKEN:
        return sound(str(value))


def _leaves(message: EmailMessage) -> Iterator[Message[Any, Any]]:
    return (part for part in message.walk() if not part.is_multipart())


def _body(message: EmailMessage, kind: str) -> str | None:
    """The first part of this kind that is no file."""
    part = next((each for each in _leaves(message) if each.get_content_type() == kind and not _is_file(each)), None)
    if part is None:
        return None
    raw, charset = _bytes_of(part), part.get_content_charset() or "utf-8"
    try:
        text = raw.decode(charset, "replace")
    except LookupError:  # no such charset
        text = raw.decode("utf-8", "replace")
    return sound(text).replace("\r\n", "\n")


def _is_file(part: Message[Any, Any]) -> bool:
    try:
        disposition = part.get_content_disposition()
    except BROKEN:
        disposition = None
    return disposition == "attachment" or part.get_content_maintype() != "text"


def _filename(part: Message[Any, Any]) -> str | None:
    try:
        return part.get_filename()
    except BROKEN:
        return None


def _bytes_of(part: Message[Any, Any]) -> bytes:
    try:
        payload = part.get_payload(decode=True)
    except BROKEN:
        payload = None
    return payload if isinstance(payload, bytes) else b""
