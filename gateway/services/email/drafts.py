"""From a caller's JSON to a ``Draft``, or to the list of everything wrong with it.

Pure, but for the clock that ``expiresAt`` is held against.

Field names are camelCase; the hosted services' snake_case spellings are accepted (``reply_to``, ``scheduled_at``).
"""

from __future__ import annotations

import base64
import binascii
import mimetypes
from datetime import UTC, datetime
from typing import Any

import msgspec

from gateway.problem import Problem
from gateway.services.email import message
from gateway.services.email.addresses import Address, parse_address
from gateway.services.email.fields import ObjectReader, Problems, iso_instant, json_type
from gateway.services.email.headers import attachment_problem
from gateway.services.email.message import Attachment
from gateway.services.email.schemas import SIMULATIONS, Draft

RECIPIENTS_MAX = 50  # in each of to, cc and bcc, as the hosted services have it
ATTACHMENTS_MAX = 10
ATTACHMENT_BYTES_MAX = 10 * 1024 * 1024  # decoded, all files of a mail together
SUBJECT_MAX = 998  # RFC 5322, 2.1.1: the longest line
METADATA_BYTES_MAX = 64 * 1024
TAGS_MAX = HEADERS_MAX = 50
NAME_MAX = 64
VALUE_MAX = 256
GROUP_MAX = 100

MAIL_FIELDS = (
    *("from", "to", "cc", "bcc", "replyTo", "subject", "html", "text", "attachments", "headers", "tags", "metadata"),
    *("priority", "category", "stream", "scheduledAt", "expiresAt", "group", "referenceType"),
    *("referenceId", "test"),
)
_LATER = "is not supported by this version"
_UNSUPPORTED = {
    "template": f"{_LATER}: send html or text",
    "templateId": f"{_LATER}: send html or text",
    "tracking": f"{_LATER}: opens and clicks are not tracked",
}
_NOBODY = Address("", "nobody", "localhost")  # stands in a draft that is not answered, because it has a problem
_ANY_TYPE = "application/octet-stream"


def read_draft(raw: object, default_from: Address | None, problems: Problems) -> Draft | None:
    """None when there is a problem; all of them are in ``problems`` then. ``default_from`` replaces a missing one."""
    if not isinstance(raw, dict):
        problems.add("", f"an e-mail is a JSON object, not {json_type(raw)}")
        return None
    before = problems.count
    fields = ObjectReader(raw, problems, known=MAIL_FIELDS, unsupported=_UNSUPPORTED)
    sender = fields.parsed("from", parse_address) or default_from
    if sender is None and fields.raw("from") is None:
        fields.problem("from", "is required here: no default sender is set (SMTP_FROM_EMAIL)")
    draft = Draft(
        sender=sender or _NOBODY,
        to=read_recipients(fields, "to"),
        cc=read_recipients(fields, "cc"),
        bcc=read_recipients(fields, "bcc"),
        reply_to=read_recipients(fields, "replyTo"),
        subject=fields.text("subject", SUBJECT_MAX) or "",
        html=fields.text("html", None, single_line=False),
        text=fields.text("text", None, single_line=False),
        attachments=_attachments(fields),
        headers=_headers(fields),
        tags=_tags(fields),
        metadata=_metadata(fields),
        priority=fields.whole_number("priority", 0, 10) or 0,
        category=fields.text("category", NAME_MAX),
        stream=fields.text("stream", NAME_MAX),
        scheduled_at=fields.parsed("scheduledAt", iso_instant),
        expires_at=fields.parsed("expiresAt", iso_instant),
        group=fields.text("group", GROUP_MAX),
        reference_type=fields.text("referenceType", NAME_MAX),
        reference_id=fields.text("referenceId", VALUE_MAX),
        simulate=fields.word("test", SIMULATIONS),
    )
    _require(fields, draft)
    _check_expiry(fields, draft)
    return draft if problems.count == before else None


def _require(fields: ObjectReader, draft: Draft) -> None:
    if draft.group == "":
        fields.problem("group", f"is empty: give 1 to {GROUP_MAX} characters, or leave it out")
    if not draft.to and fields.raw("to") in (None, []):
        fields.problem("to", "is required: 1 to 50 addresses")
    if not fields.raw("html") and not fields.raw("text") and "template" not in _refused(fields):
        fields.problems.add("text", "an e-mail needs html or text", status=422, code="missing_content")


def _check_expiry(fields: ObjectReader, draft: Draft) -> None:
    if draft.expires_at is None:
        return
    if draft.expires_at <= datetime.now(UTC):
        fields.problem("expiresAt", "is past: give a time to come, by which the mail is worth sending")
    elif draft.scheduled_at is not None and draft.expires_at <= draft.scheduled_at:
        fields.problem("expiresAt", "must be after scheduledAt: the mail would never be sent")


def _refused(fields: ObjectReader) -> set[str]:
    return {
        problem.field.removesuffix("Id") for problem in fields.problems.found if problem.code == "unsupported_field"
    }


def read_recipients(fields: ObjectReader, name: str) -> list[Address]:
    """Addresses of a field that is one string or an array of at most 50."""
    found: list[Address] = []
    lone = isinstance(fields.raw(name), str)
    for index, value in enumerate(fields.items(name, RECIPIENTS_MAX, single=str)):
        place = name if lone else f"{name}[{index}]"
        if not isinstance(value, str):
            fields.problem(place, f"must be a string, not {json_type(value)}")
            continue
        try:
            found.append(parse_address(value))
        except ValueError as error:
            fields.problem(place, str(error))
    return found


def _attachments(fields: ObjectReader) -> list[Attachment]:
    found = []
    total = 0
    for index, raw in enumerate(fields.items("attachments", ATTACHMENTS_MAX)):
        attachment = _attachment(fields, f"{fields.path}attachments[{index}]", raw)
        if attachment is not None:
            found.append(attachment)
            total += len(attachment.content)
    if total > ATTACHMENT_BYTES_MAX:
        seen = f"decode to {total} bytes, at most {ATTACHMENT_BYTES_MAX} (10 MB) are allowed"
        fields.problems.add(fields.path + "attachments", seen, status=413, code="attachments_too_large")
    return found


def _attachment(fields: ObjectReader, place: str, raw: object) -> Attachment | None:
    if not isinstance(raw, dict):
        fields.problems.add(place, f"must be an object, not {json_type(raw)}")
        return None
    before = fields.problems.count
    refused = dict.fromkeys(("url", "path"), f"{_LATER}: put the file's bytes into content (base64)")
    known = ("filename", "content", "contentType", "contentId")
    file = ObjectReader(raw, fields.problems, known=known, unsupported=refused, path=f"{place}.")
    filename = file.parsed("filename", _filename)
    if file.raw("filename") is None:
        file.problem("filename", "is required")
    if file.raw("content") is None and not any(raw.get(name) is not None for name in refused):
        file.problem("content", "is required (base64)")
    attachment = Attachment(
        filename=filename or "",
        content=file.parsed("content", _base64) or b"",
        content_type=file.parsed("contentType", _content_type) or _guess_type(filename or ""),
        content_id=file.parsed("contentId", _content_id),
    )
    return attachment if fields.problems.count == before else None


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("is not base64 (RFC 4648, section 4, padded, no line breaks)") from None


def _filename(text: str) -> str:
    _raise_if(attachment_problem(text, _ANY_TYPE, None))
    return text


def _content_type(text: str) -> str:
    _raise_if(attachment_problem("file", text, None))
    if text.lower().startswith(("multipart/", "message/")):
        raise ValueError("must not be multipart or message: send the file as application/octet-stream")
    return text


def _content_id(text: str) -> str:
    bare = text[1:-1] if text.startswith("<") and text.endswith(">") else text
    _raise_if(attachment_problem("file", _ANY_TYPE, bare))
    return bare


def _raise_if(problem: str | None) -> None:
    if problem:
        raise ValueError(problem)


def _guess_type(filename: str) -> str:
    return mimetypes.guess_type(filename)[0] or _ANY_TYPE


def _headers(fields: ObjectReader) -> dict[str, str]:
    headers = fields.mapping("headers")
    if len(headers) > HEADERS_MAX:
        fields.problem("headers", f"has {len(headers)} entries, at most {HEADERS_MAX} are allowed")
        return {}
    for name, value in headers.items():
        if not isinstance(value, str):
            fields.problem(f"headers.{name[:NAME_MAX]}", f"must be a string, not {json_type(value)}")
        elif problem := message.header_problem(name, value):
            fields.problem(f"headers.{name[:NAME_MAX]}", problem)
    return {name: value.strip() if isinstance(value, str) else value for name, value in headers.items()}


def _tags(fields: ObjectReader) -> list[dict[str, str]]:
    found = []
    for index, raw in enumerate(fields.items("tags", TAGS_MAX)):
        place = f"{fields.path}tags[{index}]"
        if not isinstance(raw, dict):
            fields.problems.add(
                place, f'must be an object like {{"name": "plan", "value": "pro"}}, not {json_type(raw)}'
            )
            continue
        tag = ObjectReader(raw, fields.problems, known=("name", "value"), path=f"{place}.")
        name = tag.text("name", NAME_MAX)
        if not name and tag.raw("name") in (None, ""):
            tag.problem("name", "is required")
        found.append({"name": name or "", "value": tag.text("value", VALUE_MAX) or ""})
    return found


def _metadata(fields: ObjectReader) -> dict[str, Any]:
    metadata = fields.mapping("metadata")
    encoded = msgspec.json.encode(metadata)
    if len(encoded) > METADATA_BYTES_MAX:
        fields.problem("metadata", f"is {len(encoded)} bytes of JSON, at most {METADATA_BYTES_MAX} are allowed")
    # Pairs of backslashes are backslashes; what then still reads \u0000 is a NUL, which PostgreSQL cannot keep.
    elif b"\\u0000" in encoded.replace(b"\\\\", b""):
        fields.problem("metadata", "must not contain NUL characters")
    return metadata


def read_scheduled_at(raw: object) -> datetime:
    """The new time of a PATCH, in UTC. Raises ``Problem`` 400 naming the field."""
    problems = Problems()
    if not isinstance(raw, dict):
        raise Problem(400, "validation_error", f"the body is a JSON object, not {json_type(raw)}")
    fields = ObjectReader(raw, problems, known=("scheduledAt",))
    moment = fields.parsed("scheduledAt", iso_instant)
    if fields.raw("scheduledAt") is None:
        fields.problem("scheduledAt", "is required: an ISO 8601 date and time with a zone")
    if moment is None or problems.found:
        raise problems.as_problem()
    return moment


def read_resend(raw: object) -> list[Address]:
    """The other recipients of a resend, or none. Raises ``Problem`` 400 naming the field."""
    if not isinstance(raw, dict):
        raise Problem(400, "validation_error", f"the body is a JSON object, not {json_type(raw)}")
    fields = ObjectReader(raw, problems := Problems(), known=("to",))
    recipients = read_recipients(fields, "to")
    if fields.raw("to") == []:
        fields.problem("to", "is empty: leave it out to send to the same recipients")
    problems.raise_if_any()
    return recipients
