"""Shapes of the API of conversations. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec

from gateway.problem import Problem
from gateway.services.conversations.prompts import SOURCES
from gateway.services.conversations.research import Research
from gateway.services.conversations.store import Message, Note

MESSAGE_MAX: Final = 20_000  # characters
FILES_MAX: Final = 20
LIMIT_DEFAULT: Final = 50
LIMIT_MAX: Final = 100
PAGE: Final = ("cursor", "limit")
_MICROS_PER_CENT: Final = 10_000

_Line = r"^[^\x00-\x1f\x7f]*$"
_FileId = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=_Line)]


class AskBody(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A question. Without ``conversationId`` it begins a conversation. ``model`` is a name of the price table; without
    one MODEL_DEFAULT answers. ``fileIds``: of files that are kept elsewhere; they stay with the message and are not
    read."""

    message: Annotated[str, msgspec.Meta(min_length=1, max_length=MESSAGE_MAX, pattern=r"\S")]
    conversation_id: UUID | None = None
    model: Annotated[str, msgspec.Meta(min_length=1, max_length=100, pattern=_Line)] | None = None
    file_ids: Annotated[list[_FileId], msgspec.Meta(max_length=FILES_MAX)] = []


class AcceptedMessage(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """``mode``: queue while Redis dispatches, else direct. ``stateId``: of a research."""

    job_id: UUID
    message_id: UUID
    conversation_id: UUID
    status: str
    mode: str
    state_id: UUID | None = None


class AcceptedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    success: bool
    data: AcceptedMessage


class ProgressView(msgspec.Struct, frozen=True):
    stage: str
    percent: int


class UsageView(msgspec.Struct, frozen=True, rename="camel"):
    """Of all attempts, those that failed too."""

    input_tokens: int
    output_tokens: int
    cost_cents: float


class NoteView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What one iteration brought; ``subject``: the question of a search."""

    number: int
    stage: str
    subject: str | None
    output: dict[str, Any]
    demo: bool
    cost_cents: float
    created_at: datetime


class StateView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Where a research stands. ``stage``: what its next iteration does; ``sources``: on what it rests."""

    id: UUID
    stage: str
    percent: int
    iteration: int
    max_iterations: int
    plan: dict[str, Any] | None
    open_questions: list[str]
    notes: list[NoteView]
    sources: str


class MessageView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """``partial``: what had come of an answer that was cut. ``refused``: the answer is the model's refusal. ``demo``:
    no model answered, the demonstration did."""

    id: UUID
    conversation_id: UUID
    profile: str
    job_id: UUID
    status: str
    question: str
    file_ids: list[str]
    answer: str | None
    partial: str | None
    refused: bool
    demo: bool
    model: str
    provider: str | None
    error: str | None
    error_kind: str | None
    progress: ProgressView
    usage: UsageView
    requested_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    state: StateView | msgspec.UnsetType = msgspec.UNSET


class ReturnView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Where the answer is: ``GET /api/messages/{messageId}``."""

    message_id: UUID
    conversation_id: UUID
    demo: bool
    usage: UsageView


class StatusView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """In the words of document 002. ``state``: waiting, delayed, active, completed, failed or cancelled;
    ``returnvalue``: once it is completed."""

    job_id: UUID
    message_id: UUID
    conversation_id: UUID
    state: str
    progress: ProgressView
    returnvalue: ReturnView | None
    failed_reason: str | None


def message_view(message: Message, state: StateView | None = None) -> MessageView:
    return MessageView(
        **{name: getattr(message, name) for name in _SHARED},
        profile=str(message.profile),
        progress=ProgressView(message.stage, message.percent),
        usage=_usage(message),
        state=msgspec.UNSET if state is None else state,
    )


def status_view(message: Message) -> StatusView:
    completed = message.status == "completed"
    return StatusView(
        job_id=message.job_id,
        message_id=message.id,
        conversation_id=message.conversation_id,
        state=_state(message),
        progress=ProgressView(message.stage, message.percent),
        returnvalue=ReturnView(
            message_id=message.id,
            conversation_id=message.conversation_id,
            demo=message.demo,
            usage=_usage(message),
        )
        if completed
        else None,
        failed_reason=message.error if message.status in ("failed", "cancelled") else None,
    )


def state_view(research: Research, notes: Sequence[Note]) -> StateView:
    return StateView(
        id=research.id,
        stage=research.stage,
        percent=research.percent,
        iteration=research.iteration,
        max_iterations=research.max_iterations,
        plan=research.plan,
        open_questions=research.questions,
        notes=[
            NoteView(
                number=note.number,
                stage=note.stage,
                subject=note.subject,
                output=note.output,
                demo=note.demo,
                cost_cents=note.cost_micros / _MICROS_PER_CENT,
                created_at=note.created_at,
            )
            for note in notes
        ],
        sources=SOURCES,
    )


class Page(msgspec.Struct, frozen=True):
    """``before``: the last one of the page before."""

    before: UUID | None
    limit: int


def read_page(query: Mapping[str, str]) -> Page:
    """Raises Problem 400 naming every parameter that is wrong."""
    problems: dict[str, str] = {}
    limit, before = query.get("limit", str(LIMIT_DEFAULT)), None
    if not (limit.isascii() and limit.isdecimal() and len(limit) <= 4 and 1 <= int(limit) <= LIMIT_MAX):
        problems["limit"] = f"must be a whole number from 1 to {LIMIT_MAX}"
    try:
        before = UUID(query["cursor"]) if "cursor" in query else None
    except ValueError:
        problems["cursor"] = "is not page.nextCursor of the page before"
    if problems:
        name, message = next(iter(problems.items()))
        details = [{"field": each, "message": said} for each, said in problems.items()]
        raise Problem(400, "validation_error", f"{name}: {message}", details=details)
    return Page(before, int(limit))


def id_of(text: str) -> UUID:
    """Raises Problem 404: what is no id names nothing."""
    try:
        return UUID(text)
    except ValueError:
        raise not_found() from None


def not_found() -> Problem:
    return Problem(404, "not_found", "There is no such conversation or message, or it is not yours")


_SHARED: Final = tuple(
    name for name in MessageView.__struct_fields__ if name in Message.__struct_fields__ and name != "profile"
)
_STATES: Final = {"queued": "waiting", "running": "active"}


def _state(message: Message) -> str:
    """A research between two iterations is active, as it is one piece of work for its caller."""
    if message.status == "queued" and message.job_state in ("waiting", "delayed"):
        return message.job_state
    if message.status == "running" and message.job_state == "delayed":
        return "delayed"
    return _STATES.get(message.status, message.status)


def _usage(message: Message) -> UsageView:
    return UsageView(message.input_tokens, message.output_tokens, message.cost_micros / _MICROS_PER_CENT)
