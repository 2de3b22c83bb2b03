"""Header fields of a message: what may stand in them, and how they are encoded and folded (RFC 5322, 2047, 2231)."""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote

from gateway.services.email.addresses import quote_name, split_name

MAX_HEADER_NAME = 76
MAX_LINE = 998  # bytes without CRLF (RFC 5322, 2.1.1)
MAX_FILENAME = 255

_FOLD_AT = 76  # lines that hold encoded words may have 76 characters (RFC 2047, 2), others should stay within 78
_WORD_BYTES = 39  # makes encoded words of 64 characters, so that one fits behind "Subject: "
_LONGEST_PLAIN = 200  # words beyond this are written as encoded words, which can be folded
_BREAKS = re.compile(r"[\r\n\x00]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NAME = re.compile(r"[!-9;-~]+")  # printable ASCII without space and colon (RFC 5322, 3.6.8)
_PRINTABLE = re.compile(r"[ -~]*")
_ENCODED = re.compile(r"=\?[^? ]+\?[BbQq]\?")
_PIECE = re.compile(r" *[^ ]+")
_TOKEN = r"[A-Za-z0-9!#$&^_.+-]{1,127}"  # RFC 6838, 4.2
_CONTENT_TYPE = re.compile(rf'({_TOKEN})/({_TOKEN})((?:; ?{_TOKEN}=(?:{_TOKEN}|"[ !#-\[\]-~]*"))*)')
_CONTENT_ID = re.compile(r"[A-Za-z0-9!#$&'*+/=?^_{|}~.@-]{1,128}")
_PLAIN_FILENAME = re.compile(r"[A-Za-z0-9!#$&()+,;=@\[\]^_{}~.-]+(?: [A-Za-z0-9!#$&()+,;=@\[\]^_{}~.-]+)*")

# Fields that the gateway or the servers on the way write; where the API has a field of its own, its name.
_RESERVED = {
    "from": "from",
    "to": "to",
    "cc": "cc",
    "bcc": "bcc",
    "reply-to": "replyTo",
    "subject": "subject",
    "date": "scheduledAt",
    "message-id": None,
    "mime-version": None,
    "sender": None,
    "return-path": None,
    "delivered-to": None,
    "apparently-to": None,
    "errors-to": None,
    "authentication-results": None,
}
# Structured fields, whose values programs read: encoded words would hide them (RFC 2047, 5).
_STRUCTURED = frozenset(
    {
        *("references", "in-reply-to", "auto-submitted", "precedence", "importance", "priority", "sensitivity"),
        *("feedback-id", "disposition-notification-to", "x-priority", "x-auto-response-suppress"),
    }
)
_STRUCTURED_PREFIX = "list-"
_RESERVED_PREFIXES = ("content-", "received", "resent-", "dkim-", "domainkey-", "arc-")


def header_problem(name: str, value: str) -> str | None:
    """What is wrong with a custom header and how to fix it, in a sentence; None if it may be sent."""
    if not _NAME.fullmatch(name) or len(name) > MAX_HEADER_NAME:
        return (
            f"header name {name[:80]!r} is not valid: use 1 to {MAX_HEADER_NAME} printable ASCII characters "
            "without spaces or colons"
        )
    key = name.lower()
    if key in _RESERVED or key.startswith(_RESERVED_PREFIXES):
        field = _RESERVED.get(key)
        advice = f"use the field {field!r} instead" if field else "leave it out or use a name that starts with X-"
        return f"header {name!r} is written by the gateway or by mail servers; {advice}"
    return _value_problem(name, value)


def _value_problem(name: str, value: str) -> str | None:
    if _CONTROL.search(value):
        return f"the value of header {name!r} contains a line break or control character; remove it"
    if not value.strip():
        return f"the value of header {name!r} is empty; leave the header out"
    if is_structured(name) and (_ENCODED.search(value) or not _PRINTABLE.fullmatch(value)):
        return f"the value of header {name!r} must be plain ASCII without encoded words: programs read it"
    if len(name) + 2 + len(value.encode(errors="replace")) > MAX_LINE:
        return f"header {name!r} is too long: name and value together may have {MAX_LINE - 2} bytes"
    return None


def is_structured(name: str) -> bool:
    key = name.lower()
    return key in _STRUCTURED or key.startswith(_STRUCTURED_PREFIX)


def text_problem(field: str, value: str) -> str | None:
    """Header injection in a field that becomes a header (subject, names): a sentence, or None."""
    if _BREAKS.search(value):
        return f"{field} contains a line break or NUL character; remove it"
    return None


def attachment_problem(filename: str, content_type: str, content_id: str | None) -> str | None:
    """What is wrong with an attachment's names, in a sentence; None if it may be sent."""
    if not filename.strip() or len(filename) > MAX_FILENAME:
        return f"filename must have 1 to {MAX_FILENAME} characters"
    if _CONTROL.search(filename) or "/" in filename or "\\" in filename:
        return f"filename {filename[:80]!r} contains a slash, backslash or control character; give the bare name"
    if not _CONTENT_TYPE.fullmatch(content_type) or len(content_type) > 255:
        return f"contentType {content_type[:80]!r} is not a media type; it looks like application/pdf"
    if content_id is not None and not _CONTENT_ID.fullmatch(content_id):
        return "contentId must have 1 to 128 ASCII letters, digits or . _ - @ characters, without angle brackets"
    return None


def refuse_breaks(field: str, value: str) -> None:
    """Raise ValueError where ``text_problem`` finds one: the last guard, whoever validated before."""
    problem = text_problem(field, value)
    if problem is not None:
        raise ValueError(problem)


def text_header(name: str, value: str) -> str:
    """A field, folded: plain where it can be, else as encoded words; a structured one, which ``header_problem`` has let
    pass, is always plain and without white space around it. Ends in CRLF."""
    refuse_breaks(name, value)
    structured = is_structured(name)
    value = value.strip() if structured else value
    pieces = _PIECE.findall(value)
    plain = (
        _PRINTABLE.fullmatch(value)
        and value == value.strip()
        and "=?" not in value
        and (len(name) + 2 + len(value) <= MAX_LINE and all(len(piece) <= MAX_LINE for piece in pieces))
    )
    if not plain and not structured:
        return _fold(f"{name}:", [f" {word}" for word in _encoded_words(value)])
    if pieces:
        pieces[0] = f" {pieces[0]}"
    return _fold(f"{name}:", pieces)


def address_header(name: str, addresses: Iterable[str]) -> str:
    """From, To, Cc, Reply-To: ``Name <addr>`` items, names encoded as needed, folded between words. Ends in CRLF."""
    words: list[str] = []
    for text in addresses:
        refuse_breaks(name, text)
        display, addr = split_name(text)
        if words:
            words[-1] += ","
        words += _phrase(display) if display else ()
        words.append(f"<{addr}>" if display else addr)
    return _fold(f"{name}:", [f" {word}" for word in words])


def content_type_of(content_type: str, filename: str) -> str:
    """The Content-Type line of an attachment.

    Types that forbid base64 (``message/*``, ``multipart/*``: RFC 2046, 5) are sent as application/octet-stream.
    ``name`` is the ASCII stand-in for readers that do not know RFC 2231: a second ``filename`` beside ``filename*``
    would count as a duplicate.
    """
    match = _CONTENT_TYPE.fullmatch(content_type)
    if match is None:
        raise ValueError(f"{content_type!r} is not a media type; it looks like application/pdf")
    if match[1].lower() in ("message", "multipart"):
        content_type = "application/octet-stream"
    line = f"Content-Type: {content_type}"
    if "name=" not in content_type and not _PLAIN_FILENAME.fullmatch(filename):
        stand_in = re.sub(r"[^A-Za-z0-9._ -]", "_", filename)[:60].strip()
        line += f';\r\n name="{stand_in}"'
    return line + "\r\n"


def disposition(kind: str, filename: str) -> str:
    """The Content-Disposition line; other than plain ASCII names in RFC 2231's continuations."""
    filename = filename.strip()
    if _PLAIN_FILENAME.fullmatch(filename) and "=?" not in filename:
        return f'Content-Disposition: {kind};\r\n filename="{filename}"\r\n'
    chunks = list(_percent_chunks(filename))
    if len(chunks) == 1:
        return f"Content-Disposition: {kind};\r\n filename*=utf-8''{chunks[0]}\r\n"
    chunks[0] = "utf-8''" + chunks[0]
    lines = [f" filename*{at}*={chunk}" for at, chunk in enumerate(chunks)]
    return f"Content-Disposition: {kind};\r\n" + ";\r\n".join(lines) + "\r\n"


def _phrase(name: str) -> list[str]:
    if not _PRINTABLE.fullmatch(name) or "=?" in name or len(name) > _LONGEST_PLAIN:
        return list(_encoded_words(name))
    quoted = quote_name(name)
    return [quoted] if quoted.startswith('"') else quoted.split(" ")


def _encoded_words(text: str) -> Iterator[str]:
    chunk = b""
    for character in text:
        encoded = character.encode()
        if len(chunk) + len(encoded) > _WORD_BYTES:
            yield _encoded_word(chunk)
            chunk = b""
        chunk += encoded
    if chunk:
        yield _encoded_word(chunk)


def _encoded_word(chunk: bytes) -> str:
    return f"=?utf-8?B?{binascii.b2a_base64(chunk, newline=False).decode()}?="


def _fold(start: str, pieces: Iterable[str]) -> str:
    """Join pieces (each begins with its white space) and break lines before them; never a line of white space only."""
    lines, line = [], start
    for at, piece in enumerate(pieces):
        if at and len(line) + len(piece) > _FOLD_AT:
            lines.append(line)
            line = piece
        else:
            line += piece
    lines.append(line)
    return "\r\n".join(lines) + "\r\n"


def _percent_chunks(text: str) -> Iterator[str]:
    chunk = ""
    for character in text:
        encoded = quote(character, safe="")
        if len(chunk) + len(encoded) > 48:
            yield chunk
            chunk = ""
        chunk += encoded
    yield chunk
