"""What of a job's argument people may see: secrets go by their key, what people wrote by the reader's role. Pure."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from gateway.infra.log import MASK

CONTENT_MASK: Final = "••• (your role may not read it)"
DEEP_MASK: Final = "… (nested deeper than is shown)"
DEPTH_MAX: Final = 100  # levels: JSON may have more than a function may call itself
SHOWN_MAX: Final = 20_000  # characters of one document on a page
_SECRET: Final = re.compile(
    r"(pass(word|wd|phrase|code)?|pwd|secret|token|authorization|cookie|credential|signature|bearer|jwt|"
    r"(api|private|secret|access|signing|encryption)[_-]?key)s?$",
    re.IGNORECASE,
)
# Bodies of mails, prompts and what models answered.
_CONTENT: Final = frozenset(
    {"text", "html", "body", "content", "prompt", "message", "messages", "input", "output", "question", "answer"}
)


def masked(value: Any, *, content: bool) -> Any:
    """``value`` with secrets replaced, and what lies deeper than ``DEPTH_MAX`` levels; without ``content`` also what
    people and models wrote."""
    return _masked(value, content, DEPTH_MAX)


def _masked(value: Any, content: bool, depth: int) -> Any:
    if not isinstance(value, dict | list | tuple):
        return value
    if depth == 0:
        return DEEP_MASK
    if isinstance(value, dict):
        return {key: _member(str(key), inner, content, depth - 1) for key, inner in value.items()}
    return [_masked(inner, content, depth - 1) for inner in value]


def _member(key: str, value: Any, content: bool, depth: int) -> Any:
    if value is None:
        return None
    if is_secret(key) and not _is_count(key, value):
        return MASK
    if not content and key.lower() in _CONTENT:
        return CONTENT_MASK
    return _masked(value, content, depth)


def is_secret(key: str) -> bool:
    return _SECRET.search(key) is not None


def _is_count(key: str, value: Any) -> bool:
    """``inputTokens``: how many a model was given."""
    return isinstance(value, int) and key.lower().endswith("tokens")


def is_hidden(path: str, *, content: bool) -> bool:
    """Would a look for values at this path (dotted) tell what is masked?"""
    return any(is_secret(key) or (not content and key.lower() in _CONTENT) for key in path.split("."))


def unmasked(edited: Any, original: Any) -> Any:
    """``edited`` with each mask that was left replaced by what it hides in ``original``."""
    if edited in (MASK, CONTENT_MASK, DEEP_MASK):
        return original
    if isinstance(edited, dict) and isinstance(original, dict):
        return {key: unmasked(inner, original.get(key)) for key, inner in edited.items()}
    if isinstance(edited, list) and isinstance(original, list):
        rest = [None] * max(0, len(edited) - len(original))
        return [unmasked(inner, old) for inner, old in zip(edited, [*original, *rest], strict=False)]
    return edited


def pretty(value: Any) -> str:
    """As JSON for reading: whole, or its beginning and a word about the rest."""
    text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode("utf-8", "replace")
    if len(text) <= SHOWN_MAX:
        return text
    return f"{text[:SHOWN_MAX]}\n… {len(text) - SHOWN_MAX} more characters"
