"""What ``/docs`` shows of the bodies and queries that ``drafts`` and ``listing`` read: descriptions only, nothing is
checked by them. A test holds the names to those that are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from litestar.openapi.spec import (
    OpenAPIFormat,
    OpenAPIMediaType,
    OpenAPIType,
    Operation,
    Parameter,
    RequestBody,
    Schema,
)

from gateway.services.email.batch import BATCH_MAX
from gateway.services.email.drafts import ATTACHMENTS_MAX, GROUP_MAX, RECIPIENTS_MAX, SUBJECT_MAX, TAGS_MAX
from gateway.services.email.schemas import SIMULATIONS, STATUSES, Accepted

_STRING = Schema(type=OpenAPIType.STRING)
_TIME = Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.DATE_TIME, description="ISO 8601 with a zone")
_ADDRESS = Schema(type=OpenAPIType.STRING, examples=["Ada Lovelace <ada@example.com>"])
_ADDRESSES = Schema(
    one_of=[_ADDRESS, Schema(type=OpenAPIType.ARRAY, items=_ADDRESS, max_items=RECIPIENTS_MAX)],
    description="One address or an array of them",
)
_ATTACHMENT = Schema(
    type=OpenAPIType.OBJECT,
    required=["filename", "content"],
    properties={
        "filename": _STRING,
        "content": Schema(type=OpenAPIType.STRING, content_encoding="base64"),
        "contentType": Schema(type=OpenAPIType.STRING, description="Guessed from the filename if absent"),
        "contentId": Schema(type=OpenAPIType.STRING, description="Named by the HTML as cid:<contentId>"),
    },
)
_TAG = Schema(type=OpenAPIType.OBJECT, required=["name"], properties={"name": _STRING, "value": _STRING})

MAIL = Schema(
    type=OpenAPIType.OBJECT,
    title="Mail",
    required=["to"],
    description="With html, text or both. The snake_case spelling of each field is accepted too.",
    properties={
        "from": Schema(type=OpenAPIType.STRING, description="Default: SMTP_FROM_EMAIL"),
        "to": _ADDRESSES,
        "cc": _ADDRESSES,
        "bcc": _ADDRESSES,
        "replyTo": _ADDRESSES,
        "subject": Schema(type=OpenAPIType.STRING, max_length=SUBJECT_MAX),
        "html": _STRING,
        "text": _STRING,
        "attachments": Schema(
            type=OpenAPIType.ARRAY, items=_ATTACHMENT, max_items=ATTACHMENTS_MAX, description="10 MB decoded in all"
        ),
        "headers": Schema(type=OpenAPIType.OBJECT, additional_properties=_STRING),
        "tags": Schema(type=OpenAPIType.ARRAY, items=_TAG, max_items=TAGS_MAX),
        "metadata": Schema(type=OpenAPIType.OBJECT, description="Kept and given back; 64 KB of JSON at most"),
        "priority": Schema(
            type=OpenAPIType.INTEGER, minimum=0, maximum=10, default=0, description="Higher is sent first"
        ),
        "category": _STRING,
        "stream": _STRING,
        "scheduledAt": _TIME,
        "expiresAt": Schema(
            type=OpenAPIType.STRING,
            format=OpenAPIFormat.DATE_TIME,
            description="ISO 8601 with a zone: not started by then, the mail is cancelled",
        ),
        "group": Schema(
            type=OpenAPIType.STRING,
            min_length=1,
            max_length=GROUP_MAX,
            description="Whose it is (a tenant, a project): groups take turns, and have limits of their own",
        ),
        "referenceType": _STRING,
        "referenceId": _STRING,
        "test": Schema(type=OpenAPIType.STRING, enum=list(SIMULATIONS), description="No SMTP: the mail ends like this"),
    },
)
_RESCHEDULE = Schema(type=OpenAPIType.OBJECT, required=["scheduledAt"], properties={"scheduledAt": _TIME})
_RESEND = Schema(type=OpenAPIType.OBJECT, properties={"to": _ADDRESSES})
_BATCH = Schema(type=OpenAPIType.ARRAY, items=MAIL, min_items=1, max_items=BATCH_MAX)

QUERY = {
    "status": Schema(type=OpenAPIType.STRING, enum=list(STATUSES)),
    "to": Schema(type=OpenAPIType.STRING, description="Bare address in to, cc or bcc"),
    "tag": Schema(type=OpenAPIType.STRING, description="name or name:value"),
    "referenceType": _STRING,
    "referenceId": _STRING,
    "from": _TIME,
    "until": _TIME,
    "cursor": Schema(type=OpenAPIType.STRING, description="page.nextCursor of the page before"),
    "limit": Schema(type=OpenAPIType.INTEGER, minimum=1, maximum=100, default=50),
}


class AcceptedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    success: Literal[True]
    data: Accepted


class BatchAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``errors``: in permissive mode, the mails that were not accepted."""

    success: Literal[True]
    data: list[Accepted]
    errors: list[dict[str, Any]]


def _json(schema: Schema, *, required: bool = True) -> RequestBody:
    return RequestBody(content={"application/json": OpenAPIMediaType(schema=schema)}, required=required)


@dataclass
class SendOperation(Operation):
    def __post_init__(self) -> None:
        self.request_body = _json(MAIL)


@dataclass
class BatchOperation(Operation):
    def __post_init__(self) -> None:
        self.request_body = _json(_BATCH)


@dataclass
class RescheduleOperation(Operation):
    def __post_init__(self) -> None:
        self.request_body = _json(_RESCHEDULE)


@dataclass
class ResendOperation(Operation):
    def __post_init__(self) -> None:
        self.request_body = _json(_RESEND, required=False)


@dataclass
class ListOperation(Operation):
    def __post_init__(self) -> None:
        self.parameters = [Parameter(name=name, param_in="query", schema=schema) for name, schema in QUERY.items()]
