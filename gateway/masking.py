"""What of a job's argument people may see: secrets go by their key and by what they look like, what people wrote by the
reader's role. Pure."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from gateway.infra.log import MASK, without_secrets

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
    """``value`` with secrets replaced, whole ones and those within texts (a URL's password), and what lies deeper than
    ``DEPTH_MAX`` levels; without ``content`` also what people and models wrote."""
    return _masked(value, content, DEPTH_MAX)


def _masked(value: Any, content: bool, depth: int) -> Any:
    if isinstance(value, str):
        return without_secrets(value)
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


class MaskLeft(ValueError):
    """``path``: where a mask stands that hides nothing known."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path}: what it hides is not known")
        self.path = path


def unmasked(edited: Any, original: Any) -> Any:
    """``edited`` with each mask that was left alone replaced by what it hides in ``original``. Raises ``MaskLeft`` for
    one that is new, or stands in a text that was changed."""
    return _unmasked(edited, original, ())


def _unmasked(edited: Any, original: Any, path: tuple[str, ...]) -> Any:
    if isinstance(edited, str):
        return _unmasked_text(edited, original, path)
    if len(path) > DEPTH_MAX:  # no mask was shown so deep
        return edited
    if isinstance(edited, dict):
        known = original if isinstance(original, dict) else {}
        return {key: _unmasked(inner, known.get(key), (*path, str(key))) for key, inner in edited.items()}
    if isinstance(edited, list):
        known_ones = _hidden_by(edited, original if isinstance(original, list) else [])
        pairs = zip(edited, known_ones, strict=True)
        return [_unmasked(inner, old, (*path, str(place))) for place, (inner, old) in enumerate(pairs)]
    return edited


def _unmasked_text(edited: str, original: Any, path: tuple[str, ...]) -> Any:
    if edited in (MASK, CONTENT_MASK, DEEP_MASK) and original is not None:
        return original
    if isinstance(original, str) and edited == without_secrets(original):
        return original
    if MASK in edited or DEEP_MASK in edited:
        if isinstance(original, str) and without_secrets(original) == original and MASK in original:
            return edited  # its own words
        raise MaskLeft(".".join(path))
    return edited


def _hidden_by(edited: list[Any], originals: list[Any]) -> list[Any]:
    """For each item the one that it was: the one that is shown so, wherever it stands now, else the one in its place
    unless that stands elsewhere. None where it is not certain."""
    shown = [msgspec.json.encode(masked(one, content=True)) for one in originals]
    items = [msgspec.json.encode(item) for item in edited]
    if items == shown:
        return originals
    same_place = dict(enumerate(originals)) if len(edited) == len(originals) else {}
    alike: dict[bytes, list[Any]] = {}
    for look, one in zip(shown, originals, strict=True):
        alike.setdefault(look, []).append(one)
    found, present = [], set(items)
    for place, item in enumerate(items):
        ones = alike.get(item, [])
        if ones and all(one == ones[0] for one in ones):
            found.append(ones[0])
        elif place in same_place and (shown[place] == item if ones else shown[place] not in present):
            found.append(same_place[place])
        else:
            found.append(None)
    return found


def pretty(value: Any, most: int | None = SHOWN_MAX) -> str:
    """As JSON for reading: whole, or its first ``most`` characters and a word about the rest."""
    text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode("utf-8", "replace")
    if most is None or len(text) <= most:
        return text
    return f"{text[:most]}\n… {len(text) - most} more characters"
