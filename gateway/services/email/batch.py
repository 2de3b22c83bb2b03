"""Reading ``POST /emails/batch``. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.problem import Problem
from gateway.services.email.addresses import Address
from gateway.services.email.drafts import read_draft
from gateway.services.email.fields import Problems, json_type
from gateway.services.email.schemas import Draft

BATCH_MAX = 100
BATCH_ATTACHMENT_BYTES_MAX = 1024 * 1024  # decoded, all files of all mails together
STRICT = "strict"
PERMISSIVE = "permissive"


class Batch(msgspec.Struct, frozen=True):
    """The mails to accept, in order, and ``{index, code, message}`` for each of the others."""

    drafts: list[Draft]
    errors: list[dict[str, Any]]


def read_batch(raw: object, validation: str, default_from: Address | None) -> Batch:
    """Raises ``Problem``: 400 when it is no array or ``validation`` is an unknown word, 413 for too large files, 422
    when there are not 1 to 100 mails, and in strict mode when any mail has a problem."""
    if validation not in (STRICT, PERMISSIVE):
        message = f"X-Batch-Validation must be {STRICT} or {PERMISSIVE}, not {validation[:40]!r}"
        raise Problem(400, "validation_error", message, details=[{"field": "X-Batch-Validation", "message": message}])
    if not isinstance(raw, list):
        raise Problem(
            400, "validation_error", f"a batch is a JSON array of 1 to {BATCH_MAX} mails, not {json_type(raw)}"
        )
    if not 1 <= len(raw) <= BATCH_MAX:
        raise Problem(422, "invalid_batch_size", f"a batch has 1 to {BATCH_MAX} mails, this one has {len(raw)}")
    drafts, errors = [], []
    for index, item in enumerate(raw):
        problems = Problems()
        draft = read_draft(item, default_from, problems)
        if draft is not None:
            drafts.append(draft)
        elif (worst := problems.worst()) is not None:
            errors.append({"index": index, "code": worst.code, "message": "; ".join(problems.lines())})
    _check_files(drafts)
    if errors and validation == STRICT:
        many = "1 mail needs" if len(errors) == 1 else f"{len(errors)} mails need"
        raise Problem(422, "validation_error", f"{many} attention; nothing was accepted", details=errors)
    return Batch(drafts, errors)


def _check_files(drafts: list[Draft]) -> None:
    total = sum(len(file.content) for draft in drafts for file in draft.attachments)
    if total > BATCH_ATTACHMENT_BYTES_MAX:
        message = f"attachments decode to {total} bytes, a batch may have {BATCH_ATTACHMENT_BYTES_MAX} (1 MB) in all"
        details = [{"field": "attachments", "message": message}]
        raise Problem(413, "attachments_too_large", message, details=details)
