"""Internet messages (RFC 5322, RFC 2045-2047, RFC 2231) built by hand: the standard library's ``EmailMessage`` costs
milliseconds for each mail, this costs some tens of microseconds and parses back without defects.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from collections.abc import Iterable
from datetime import datetime
from email.utils import format_datetime
from urllib.parse import unquote
from uuid import UUID

import msgspec

from gateway.services.email.headers import (
    address_header,
    content_type_of,
    disposition,
    header_problem,
    refuse_breaks,
    text_header,
)

__all__ = [
    "Attachment",
    "Mail",
    "build",
    "header_problem",
    "new_message_id",
    "normalise_newlines",
]

CID = re.compile(r"""cid:([^"'\s)>]+)""", re.IGNORECASE)
_NON_ASCII_ONLY = bytes(range(128))
_LONG_LINE = re.compile(rb"[^\n]{77}")  # 7bit is kept for lines that need no care by anyone: up to 76 and CRLF
_CONTROL = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]")
_MESSAGE_ID = re.compile(r"<[!-;=?A-~]+@[!-;=?A-~]+>")


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    """A file. With a ``content_id`` that the HTML names as ``cid:<content_id>`` it is shown inside the text."""

    filename: str
    content_type: str
    content: bytes
    content_id: str | None = None


class Mail(msgspec.Struct, frozen=True, kw_only=True):
    """What recipients see. Addresses are ``Name <addr>`` or bare, as ``Address.header`` gives them, not encoded.

    Blind copies are not here: they stand in the SMTP envelope alone. ``date`` must be aware. ``message_id`` includes
    the angle brackets.
    """

    message_id: str
    from_address: str
    to: list[str]
    subject: str
    date: datetime
    cc: list[str] = []
    reply_to: list[str] = []
    html: str | None = None
    text: str | None = None
    headers: dict[str, str] = {}
    attachments: list[Attachment] = []


class _Part(msgspec.Struct, frozen=True):
    headers: bytes  # each line ends in CRLF
    body: bytes


def new_message_id(email_id: UUID, domain: str) -> str:
    """The Message-ID of a mail: the same in each attempt, so that a receiver can recognise a repeated delivery."""
    return f"<{email_id}@{domain}>"


def build(mail: Mail) -> bytes:
    """The message as it goes to DATA, before dot-stuffing: CRLF line ends only, ASCII only, no line over 998 bytes.

    Text bodies get CRLF line ends and a final one; the same mail gives the same bytes. Raises ValueError on line breaks
    in a header field, on reserved custom headers and on a naive date (RFC 5322, 3.6; RFC 2045, 2.8).
    """
    content = _with_attachments(mail)
    return b"".join((_header_block(mail), content.headers, b"\r\n", content.body))


def normalise_newlines(text: str) -> str:
    """LF line ends (from CRLF, CR or LF) and a final one unless the text is empty: what a reader gets back."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text if not text or text.endswith("\n") else text + "\n"


def _header_block(mail: Mail) -> bytes:
    if mail.date.tzinfo is None:
        raise ValueError("the date has no time zone")
    if not _MESSAGE_ID.fullmatch(mail.message_id):
        raise ValueError(f"{mail.message_id!r} is not a Message-ID; it looks like <id@domain>")
    lines = [address_header("From", [mail.from_address])]
    for name, addresses in (
        ("To", mail.to),
        ("Cc", mail.cc),
        ("Reply-To", mail.reply_to),
    ):
        if addresses:
            lines.append(address_header(name, addresses))
    lines.append(text_header("Subject", mail.subject))
    lines.append(f"Date: {format_datetime(mail.date)}\r\nMessage-ID: {mail.message_id}\r\nMIME-Version: 1.0\r\n")
    for name, value in mail.headers.items():
        problem = header_problem(name, value)
        if problem is not None:
            raise ValueError(problem)
        lines.append(text_header(name, value))
    return "".join(lines).encode("ascii")


def _with_attachments(mail: Mail) -> _Part:
    inline, files = _split_inline(mail)
    text, html = mail.text, mail.html
    parts: list[_Part] = []
    if text is not None or (html is None and not files):
        parts.append(_text_part("plain", text or ""))
    if html is not None:
        page = _text_part("html", html)
        if inline:
            images = [_file_part(each, "inline") for each in inline]
            page = _multipart("related", [page, *images], mail.message_id, '; type="text/html"')
        parts.append(page)
    if len(parts) > 1:
        parts = [_multipart("alternative", parts, mail.message_id)]
    if not files:
        return parts[0]
    return _multipart(
        "mixed",
        [*parts, *(_file_part(each, "attachment") for each in files)],
        mail.message_id,
    )


def _split_inline(mail: Mail) -> tuple[list[Attachment], list[Attachment]]:
    if mail.html is None or not any(each.content_id for each in mail.attachments):
        return [], list(mail.attachments)
    named = {unquote(match) for match in CID.findall(mail.html)}
    inline = [each for each in mail.attachments if each.content_id in named]
    return inline, [each for each in mail.attachments if each.content_id not in named]


def _multipart(subtype: str, parts: Iterable[_Part], seed: str, parameters: str = "") -> _Part:
    # "=_" occurs in no base64 or quoted-printable body (RFC 2045, 6.7), and bodies that hold it are not left as 7bit.
    boundary = f"=_{subtype}_{hashlib.sha256(seed.encode()).hexdigest()[:24]}"
    line = b"--" + boundary.encode()
    chunks: list[bytes] = []
    for part in parts:
        chunks += (line, b"\r\n", part.headers, b"\r\n", part.body, b"\r\n")
    chunks += (line, b"--\r\n")
    head = f'Content-Type: multipart/{subtype}{parameters};\r\n boundary="{boundary}"\r\n'
    return _Part(head.encode(), b"".join(chunks))


def _text_part(subtype: str, text: str) -> _Part:
    raw = normalise_newlines(text).replace("\n", "\r\n").encode()
    encoding, charset, body = "7bit", "us-ascii", raw
    foreign = len(raw.translate(None, _NON_ASCII_ONLY))
    if foreign:
        charset = "utf-8"
    if foreign * 6 > len(raw):  # from here on base64 (4/3) is shorter than quoted-printable (3 for each such byte)
        encoding, body = "base64", _base64(raw)
    elif foreign or _needs_care(raw):
        encoding, body = "quoted-printable", binascii.b2a_qp(raw, istext=True)
    head = f"Content-Type: text/{subtype}; charset={charset}\r\nContent-Transfer-Encoding: {encoding}\r\n"
    return _Part(head.encode(), body)


def _needs_care(raw: bytes) -> bool:
    # Trailing blanks are lost on the way, and "=_" could meet a boundary.
    bare = raw.replace(b"\r\n", b"\n")
    return bool(_LONG_LINE.search(bare) or _CONTROL.search(bare) or b" \n" in bare or b"\t\n" in bare or b"=_" in bare)


def _file_part(file: Attachment, kind: str) -> _Part:
    refuse_breaks("filename", file.filename)
    lines = [
        content_type_of(file.content_type, file.filename),
        disposition(kind, file.filename),
    ]
    if file.content_id:
        refuse_breaks("contentId", file.content_id)
        lines.append(f"Content-ID: <{file.content_id}>\r\n")
    lines.append("Content-Transfer-Encoding: base64\r\n")
    return _Part("".join(lines).encode("ascii"), _base64(file.content))


def _base64(raw: bytes) -> bytes:
    encoded = binascii.b2a_base64(raw, newline=False)
    return b"".join([encoded[at : at + 76] + b"\r\n" for at in range(0, len(encoded), 76)])
