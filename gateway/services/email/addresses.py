"""Mail addresses as people write them: ``a@example.com``, ``Ada Byron <ada@example.com>``, ``"Doe, Jane" <j@x.org>``.

Decided here: the part before the @ must be ASCII, because a non-ASCII one needs SMTPUTF8 (RFC 6531) on every server of
the way, which most lack. Domains may be written in any script and are kept as A-labels (RFC 5891). Special-use domains
(``example.com``, ``you@test.invalid``) are accepted: people try the gateway with them.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from gateway.settings.mailbox import CONTROL, check_display_name, check_mailbox

_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")  # RFC 5322, 3.2.3
_ESCAPED = re.compile(r"\\(.)")


class Address(NamedTuple):
    """One mailbox. ``name`` is the display name as people read it, empty if none."""

    name: str
    local: str
    domain: str

    @property
    def addr(self) -> str:
        """The bare address, as it stands in RCPT TO; always ASCII."""
        return f"{self.local}@{self.domain}"

    @property
    def header(self) -> str:
        """The address for people and for ``Mail``: unencoded, the name quoted where RFC 5322 (3.4) wants it."""
        if not self.name:
            return self.addr
        return f"{quote_name(self.name)} <{self.addr}>"


def parse_address(text: str) -> Address:
    """Read one address, with or without a display name.

    Raises ValueError: a sentence that names what is wrong and how to fix it.
    """
    if CONTROL.search(text):
        raise ValueError("the address contains a line break or control character; remove it")
    stripped = text.strip()
    if not stripped:
        raise ValueError("the address is empty; write it as name@example.com")
    name, addr = split_name(stripped)
    try:
        check_display_name(name)
    except ValueError as error:
        raise ValueError(f"the display name {error}") from None
    try:
        local, domain = check_mailbox(addr)
    except ValueError as error:
        raise ValueError(f"{_shown(stripped)} {error}") from None
    return Address(name, local, domain)


def split_name(text: str) -> tuple[str, str]:
    """``'"Doe, Jane" <j@x.org>'`` -> ``('Doe, Jane', 'j@x.org')``; a bare address has an empty name. No validation."""
    if not text.endswith(">"):
        return "", text
    phrase, bracket, addr = text[:-1].rpartition("<")
    if not bracket:
        return "", text
    phrase = phrase.strip()
    if len(phrase) >= 2 and phrase[0] == phrase[-1] == '"':
        phrase = _ESCAPED.sub(r"\1", phrase[1:-1]).strip()
    return phrase, addr.strip()


def quote_name(name: str) -> str:
    """A display name as a phrase (RFC 5322, 3.2.5): atoms stay, ASCII specials are quoted, non-ASCII stays as it is
    unless it holds specials."""
    if _ATOMS.fullmatch(name) or (not name.isascii() and not re.search(r'[()<>\[\]:;@\\,."]', name)):
        return name
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
