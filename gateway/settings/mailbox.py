"""What a mailbox must be, for SMTP_FROM_EMAIL and for the addresses of mails alike: one rule, so that a sender that
passes the start passes each mail. ``services/email/addresses.py`` says what is decided here, and why.
"""

from __future__ import annotations

import re

import email_validator
from email_validator import EmailNotValidError, validate_email

MAX_NAME = 200  # characters; keeps a quoted display name far below the 998 bytes of a header line (RFC 5322, 2.1.1)

# The library's own switch: what is not in this list of names is not refused as "special use" (its README, "Advanced").
email_validator.SPECIAL_USE_DOMAIN_NAMES.clear()

CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]")


def check_mailbox(text: str) -> tuple[str, str]:
    """The part before the @ and the domain of one bare address, both ASCII.

    Raises ValueError: what is wrong and how to fix it, to be read behind the address.
    """
    local, at, domain = text.rpartition("@")
    if not at:
        raise ValueError("has no @; write it as name@example.com")
    if "," in text or ";" in text:
        raise ValueError("looks like several addresses; give each one as its own item")
    if not local.isascii():
        raise ValueError(
            "has non-ASCII characters before the @, which needs SMTPUTF8 (not supported); "
            "use an ASCII address of the same person"
        )
    try:
        checked = validate_email(
            text,
            check_deliverability=False,
            globally_deliverable=domain.lower() != "localhost",
            allow_smtputf8=False,
            strict=True,
        )
    except EmailNotValidError as error:
        raise ValueError(f"is not an address: {error}") from None
    ascii_local, ascii_domain = checked.ascii_local_part, checked.ascii_domain
    if ascii_local is None or ascii_domain is None:
        raise ValueError("has no ASCII form; use an ASCII address")
    return ascii_local, ascii_domain


def check_display_name(name: str) -> None:
    """Raises ValueError for a name that no header can carry: control characters, or more than ``MAX_NAME``."""
    if CONTROL.search(name):
        raise ValueError("contains a line break or control character; remove it")
    if len(name) > MAX_NAME:
        raise ValueError(f"has {len(name)} characters; use at most {MAX_NAME}")
