"""What mailbox providers and readers look for in a mail, as far as it can be seen without asking anybody. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Final

import msgspec

from gateway.services.email.pages.store import Beside

CLIPPED_BYTES: Final = 102 * 1024  # Gmail shows less than all of a longer HTML


class Check(msgspec.Struct, frozen=True, rename="camel"):
    """``good``: nothing to do. ``text``: what was seen, and what to do about it."""

    name: str
    good: bool
    text: str


def checks(beside: Beside, headers: Mapping[str, str], subject: str) -> list[Check]:
    return [_text_part(beside), _unsubscribe(headers), _size(beside), _subject(subject)]


def _text_part(beside: Beside) -> Check:
    if beside.text_bytes:
        return Check("Text part", True, "There is one")
    return Check("Text part", False, "There is none: send `text` beside `html`, some readers show nothing else")


def _unsubscribe(headers: Mapping[str, str]) -> Check:
    names = {name.lower() for name in headers}
    if "list-unsubscribe" not in names:
        text = "There is none: mails to many need it (RFC 2369), receipts and the like do not"
        return Check("List-Unsubscribe", False, text)
    if "list-unsubscribe-post" not in names:
        text = "Without List-Unsubscribe-Post (RFC 8058) mailbox providers offer no one-click unsubscribing"
        return Check("List-Unsubscribe", False, text)
    return Check("List-Unsubscribe", True, "With one click")


def _size(beside: Beside) -> Check:
    size = beside.html_bytes or 0
    text = f"{size / 1024:.0f} KB of HTML"
    if size > CLIPPED_BYTES:
        return Check("Size", False, f"{text}: Gmail cuts it off at {CLIPPED_BYTES // 1024} KB")
    return Check("Size", True, text)


def _subject(subject: str) -> Check:
    if not subject.strip():
        return Check("Subject", False, "It is empty")
    if any(unicodedata.category(each) in ("Cc", "Cf") for each in subject):
        return Check("Subject", False, "It holds characters that cannot be seen or that turn the text round")
    return Check("Subject", True, f"{len(subject)} characters")
