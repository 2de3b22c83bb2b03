"""Text that strangers wrote (titles, names, paths), made safe to show and to hand to an agent as data. Pure."""

from __future__ import annotations

import re
import unicodedata

from gateway.services.orchestration.github.errors import GitHubRefused

# GitHub's own rules: an owner has up to 39 letters, digits and hyphens (and "_" where a company manages its accounts).
_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,38}/[A-Za-z0-9._-]{1,100}")
_BREAKS = frozenset("\t\n\v\f\r\x85\u2028\u2029")


def check_repository(text: str) -> str:
    """``text`` if it is owner/name as GitHub writes it; raises ``GitHubRefused``. It becomes part of an address."""
    name = text.partition("/")[2]
    if not _REPOSITORY.fullmatch(text) or name in (".", ".."):
        raise GitHubRefused(
            "bad_repository", f"{clean(text, 80)!r} is no repository; write it as owner/name, without https://"
        )
    return text


def clean(text: str, most: int) -> str:
    """One line of at most ``most`` characters. Control, invisible and unassigned characters go: those that turn the
    direction of writing, and those in which instructions can be hidden from people but not from a model."""
    text = text[: most * 4]
    kept = (" " if c in _BREAKS else c for c in text if c in _BREAKS or not unicodedata.category(c).startswith("C"))
    line = " ".join("".join(kept).split())
    return line if len(line) <= most else line[: most - 1] + "…"


def clean_markdown(text: str, most: int) -> str:
    """The same for text of several lines, as it is written to GitHub: line breaks and tabs stay."""
    kept = "".join(
        c for c in text.replace("\r\n", "\n") if c in "\n\t" or not unicodedata.category(c).startswith("C")
    ).strip()
    return kept if len(kept) <= most else kept[: most - 1] + "…"
