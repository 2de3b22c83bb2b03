"""The API of e-mails. Bodies are read by ``drafts``, so that every problem of a request is named at once."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Controller, Request, Response, get, patch, post
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import FromPath, FromQuery, HeaderParameter, QueryParams, RawBody

from gateway.access import Principal, Scope
from gateway.idempotency import request_hash
from gateway.services.email.batch import STRICT, read_batch
from gateway.services.email.drafts import read_draft, read_resend, read_scheduled_at
from gateway.services.email.fields import Problems, decode_json
from gateway.services.email.listing import PARAMETERS, next_cursor, read_filter, read_include
from gateway.services.email.openapi import (
    AcceptedAnswer,
    BatchAnswer,
    BatchOperation,
    ListOperation,
    RescheduleOperation,
    ResendOperation,
    SendOperation,
)
from gateway.services.email.schemas import Accepted, MailView
from gateway.services.email.service import Call, EmailService, not_found, visible_to

EMAILS_PATH = "/api/v1/emails"
SEND = {"access": Scope.EMAILS_SEND}
READ = {"access": Scope.EMAILS_READ}
# These answers are stored whole, for requests that are repeated: their handlers return bytes.
ACCEPTED = {202: ResponseSpec(AcceptedAnswer, generate_examples=False, description="Committed: it will be sent")}
ACCEPTED_BATCH = {202: ResponseSpec(BatchAnswer, generate_examples=False, description="Committed: these will be sent")}

EmailRequest = Request[Principal, Any, Any]
Mails = NamedDependency[EmailService]
IdempotencyKey = Annotated[str | None, HeaderParameter(name="Idempotency-Key")]


def success(data: Any, **beside: Any) -> dict[str, Any]:
    return {"success": True, "data": data, **beside}


def mail_id_of(text: str) -> UUID:
    """Raises Problem 404: what is no id names no mail."""
    try:
        return UUID(text)
    except ValueError:
        raise not_found(text) from None


class EmailsController(Controller):
    path = EMAILS_PATH
    tags = ("emails",)

    @post("/", opt=SEND, status_code=202, summary="Send an e-mail", operation_class=SendOperation, responses=ACCEPTED)
    async def send_email(
        self, request: EmailRequest, mails: Mails, body: RawBody, idempotency_key: IdempotencyKey = None
    ) -> Response[bytes]:
        problems = Problems()
        draft = read_draft(decode_json(body), mails.default_from, problems)
        if draft is None:
            raise problems.as_problem()
        answer = await mails.accept(_call(request, idempotency_key, body), [draft], lambda done: success(done[0]))
        return answer.response()

    @post(
        "/batch",
        opt=SEND,
        status_code=202,
        summary="Send up to 100 e-mails",
        operation_class=BatchOperation,
        responses=ACCEPTED_BATCH,
    )
    async def send_batch(
        self,
        request: EmailRequest,
        mails: Mails,
        body: RawBody,
        idempotency_key: IdempotencyKey = None,
        validation: Annotated[str, HeaderParameter(name="X-Batch-Validation")] = STRICT,
    ) -> Response[bytes]:
        batch = read_batch(decode_json(body), validation, mails.default_from)

        def answer_body(done: list[Accepted]) -> dict[str, Any]:
            return success(done, errors=batch.errors)

        # The header decides what the request means, so it is part of what a key stands for.
        call = _call(request, idempotency_key, body, validation)
        return (await mails.accept(call, batch.drafts, answer_body)).response()

    @get(
        "/",
        opt=READ | {"query": PARAMETERS},
        summary="List e-mails, newest first",
        operation_class=ListOperation,
    )
    async def list_emails(self, request: EmailRequest, mails: Mails, query: QueryParams) -> dict[str, Any]:
        """Query: status, to, tag (name or name:value), referenceType, referenceId, from, until, cursor, limit."""
        wanted, rows = read_filter(dict(query.items()), visible_to(request.user))
        page = await mails.store.page(wanted, rows + 1)
        following = next_cursor(page[rows - 1]) if len(page) > rows else None
        return success(page[:rows], page={"nextCursor": following, "limit": rows})

    @get("/{email_id:str}", opt=READ | {"query": ("include",)}, summary="One e-mail")
    async def show_email(
        self,
        request: EmailRequest,
        mails: Mails,
        email_id: FromPath[str],
        include: FromQuery[str | None] = None,
    ) -> dict[str, Any]:
        mail_id, wanted = mail_id_of(email_id), read_include(include)
        if "body" in wanted:
            await mails.demand_content(request.user, mail_id)
        return success(await _view(mails, mail_id, visible_to(request.user), wanted))

    @get("/{email_id:str}/events", opt=READ, summary="An e-mail's timeline")
    async def list_events(self, request: EmailRequest, mails: Mails, email_id: FromPath[str]) -> dict[str, Any]:
        mail = await mails.visible(request.user, mail_id_of(email_id))
        return success(await mails.store.events(mail.id))

    @patch("/{email_id:str}", opt=SEND, summary="Reschedule an e-mail", operation_class=RescheduleOperation)
    async def reschedule_email(
        self, request: EmailRequest, mails: Mails, email_id: FromPath[str], body: RawBody
    ) -> dict[str, Any]:
        mail_id = mail_id_of(email_id)
        return success(await mails.reschedule(request.user, mail_id, read_scheduled_at(decode_json(body))))

    @post("/{email_id:str}/cancel", opt=SEND, status_code=200, summary="Do not send an e-mail")
    async def cancel_email(self, request: EmailRequest, mails: Mails, email_id: FromPath[str]) -> dict[str, Any]:
        mail_id = mail_id_of(email_id)
        await mails.cancel(request.user, mail_id)
        return success({"id": mail_id, "status": "cancelled"})

    @post(
        "/{email_id:str}/resend",
        opt=SEND,
        status_code=202,
        summary="Send an e-mail again",
        operation_class=ResendOperation,
        responses=ACCEPTED,
    )
    async def resend_email(
        self,
        request: EmailRequest,
        mails: Mails,
        email_id: FromPath[str],
        body: RawBody,
        idempotency_key: IdempotencyKey = None,
    ) -> Response[bytes]:
        mail_id = mail_id_of(email_id)
        recipients = read_resend(decode_json(body)) if body.strip() else []
        return (await mails.resend(_call(request, idempotency_key, body), mail_id, recipients)).response()


def _call(request: EmailRequest, key: str | None, body: bytes, variant: str = "") -> Call:
    path = f"{request.url.path} {variant}".rstrip()
    return Call(caller=request.user, key=key, request=request_hash(request.method, path, body))


async def _view(mails: EmailService, mail_id: UUID, owner: str | None, include: set[str]) -> MailView:
    found = await mails.store.get(mail_id, owner)
    if found is None:
        raise not_found(mail_id)
    summary, headers = found
    store = mails.store
    html, text = await store.bodies(mail_id) if "body" in include else (msgspec.UNSET, msgspec.UNSET)
    return MailView(
        **{name: getattr(summary, name) for name in summary.__struct_fields__},
        headers=headers,
        attachments=await store.attachment_views(mail_id),
        recipients=await store.recipients(mail_id),
        html=html,
        text=text,
        events=await store.events(mail_id) if "events" in include else msgspec.UNSET,
        attempts=await store.attempts(mail_id) if "attempts" in include else msgspec.UNSET,
    )
