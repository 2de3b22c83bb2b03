"""Kinds of actions and what each is given: the words of an agent, checked and made safe. Pure."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any, Final, TypeAlias

import msgspec
from msgspec import Meta

from gateway.services.orchestration.github.text import clean, clean_markdown

TITLE_MAX: Final = 200
DETAIL_MAX: Final = 8_000
TEXT_MAX: Final = 20_000
RECIPIENTS_MAX: Final = 10  # of one mail: agents write to people, not to lists
RATIONALE_MAX: Final = 2_000
_RAW_MAX: Final = 16_000  # bytes of arguments that are kept although they do not fit
_ADDRESS_MAX: Final = 254
# Bare addresses only; the e-mail feature looks more closely before it sends.
_ADDRESS: Final = re.compile(r"[^\s@<>,;:\"()\[\]\\]{1,64}@[^\s@<>,;:\"()\[\]\\.]+(\.[^\s@<>,;:\"()\[\]\\.]+)+")


class ActionKind(StrEnum):
    """What an agent may want done. Each is also the name of the tool that allows it."""

    CREATE_TASK = "create_task"
    SEND_EMAIL = "send_email"
    COMMENT_ISSUE = "comment_issue"
    OPEN_ISSUE = "open_issue"


class ActionStatus(StrEnum):
    """``OPEN`` ones are still to be decided or executed, the others have ended."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    REFUSED = "refused"
    PLANNED = "planned"
    EXECUTING = "executing"
    EXECUTED = "executed"
    FAILED = "failed"


OPEN: Final = frozenset({ActionStatus.PENDING, ActionStatus.APPROVED, ActionStatus.EXECUTING})

_Priority = Annotated[int, Meta(ge=1, le=10)]


class CreateTask(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``priority``: 10 is the most urgent."""

    title: str
    detail: str = ""
    priority: _Priority = 5


class SendEmail(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Plain text, from the gateway's default sender. Agents choose neither the sender nor the headers."""

    to: list[str]
    subject: str
    text: str


class CommentIssue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """In the project's repository. ``number``: of an issue or a pull request; ``body``: Markdown."""

    number: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    body: str


class OpenIssue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """In the project's repository. ``body``: Markdown."""

    title: str
    body: str


Arguments: TypeAlias = CreateTask | SendEmail | CommentIssue | OpenIssue
_SHAPES: Final[dict[ActionKind, type[Arguments]]] = {
    ActionKind.CREATE_TASK: CreateTask,
    ActionKind.SEND_EMAIL: SendEmail,
    ActionKind.COMMENT_ISSUE: CommentIssue,
    ActionKind.OPEN_ISSUE: OpenIssue,
}


def read_arguments(kind: ActionKind, raw: object) -> Arguments:
    """What came from an agent or a person, as an object or as the text of one. Raises ValueError saying which field is
    wrong and how. Texts are cleaned of what people do not see; one that is too long is refused, as half of it may say
    something else."""
    if isinstance(raw, str):
        try:
            raw = msgspec.json.decode(raw)
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
            raise ValueError(f"arguments are not JSON: {error}") from None
    try:
        found: Arguments = msgspec.convert(raw, _SHAPES[kind])
    except (msgspec.ValidationError, RecursionError) as error:
        raise ValueError(f"arguments of {kind}: {clean(str(error), 300)}") from None
    match found:
        case CreateTask():
            return CreateTask(_line("title", found.title, TITLE_MAX), _may("detail", found.detail), found.priority)
        case SendEmail():
            subject = _line("subject", found.subject, TITLE_MAX)
            return SendEmail(_recipients(found.to), subject, _text("text", found.text))
        case CommentIssue():
            return CommentIssue(found.number, _text("body", found.body))
        case OpenIssue():
            return OpenIssue(_line("title", found.title, TITLE_MAX), _text("body", found.body))


def storable(raw: object) -> dict[str, Any]:
    """Arguments that do not fit, as far as they can be kept: people shall see what was asked."""
    try:
        text = msgspec.json.encode(raw).decode().replace("\\u0000", "\\ufffd")
    except (TypeError, ValueError, RecursionError):
        return {"unreadable": True}
    if len(text) > _RAW_MAX:
        return {"cut": clean_markdown(text[:_RAW_MAX], _RAW_MAX)}
    kept = msgspec.json.decode(text)
    return kept if isinstance(kept, dict) else {"value": kept}


def _recipients(addresses: list[str]) -> list[str]:
    wanted = list(dict.fromkeys(address.strip() for address in addresses))
    if not 1 <= len(wanted) <= RECIPIENTS_MAX:
        raise ValueError(f"to: names {len(wanted)} recipients; 1 to {RECIPIENTS_MAX} are allowed")
    for address in wanted:
        if len(address) > _ADDRESS_MAX or not _ADDRESS.fullmatch(address) or clean(address, _ADDRESS_MAX) != address:
            raise ValueError(f"to: {clean(address, 80)!r} is no bare address like ada@example.com")
    return wanted


def _line(name: str, text: str, most: int) -> str:
    """One line."""
    return _checked(name, clean(text, len(text) + 1), most)


def _text(name: str, text: str) -> str:
    """Several lines."""
    return _checked(name, clean_markdown(text, len(text) + 1), TEXT_MAX)


def _may(name: str, text: str) -> str:
    """Several lines or nothing."""
    cleaned = clean_markdown(text, len(text) + 1)
    return _checked(name, cleaned, DETAIL_MAX) if cleaned else ""


def _checked(name: str, cleaned: str, most: int) -> str:
    if not cleaned:
        raise ValueError(f"{name}: is empty")
    if len(cleaned) > most:
        raise ValueError(f"{name}: has {len(cleaned)} characters, at most {most} are allowed")
    return cleaned
