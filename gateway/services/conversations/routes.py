"""Conversations over HTTP, at the paths of document 002."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Final

from litestar import Controller, Request, Response, Router, delete, get, post
from litestar.di import NamedDependency, Provide
from litestar.openapi import ResponseSpec
from litestar.params import FromPath, HeaderParameter, JSONBody, QueryParams, RawBody

from gateway.access import Principal, Scope
from gateway.feature import OwnRouter
from gateway.idempotency import request_hash
from gateway.services.conversations.queues import Profile
from gateway.services.conversations.schemas import PAGE, AcceptedAnswer, AskBody, id_of, read_page, status_view
from gateway.services.conversations.service import Call, Conversations

READ: Final = {"access": Scope.CONVERSATIONS_READ}
WRITE: Final = {"access": Scope.CONVERSATIONS_WRITE}
# These answers are stored whole, for requests that are repeated: their handlers return bytes.
ACCEPTED: Final = {
    202: ResponseSpec(AcceptedAnswer, generate_examples=False, description="Committed: it will be answered")
}

AskRequest = Request[Principal, Any, Any]
TheConversations = NamedDependency[Conversations]
IdempotencyKey = Annotated[str | None, HeaderParameter(name="Idempotency-Key")]


class ChatController(Controller):
    path = "/api/chat"
    tags = ("conversations",)

    @post("/", opt=WRITE, status_code=202, summary="Ask in a conversation", responses=ACCEPTED)
    async def ask(
        self,
        request: AskRequest,
        conversations: TheConversations,
        data: JSONBody[AskBody],
        body: RawBody,
        idempotency_key: IdempotencyKey = None,
    ) -> Response[bytes]:
        call = _call(request, idempotency_key, body)
        return (await conversations.ask(call, Profile.CHAT, data)).response()

    @get("/status/{job_id:str}", opt=READ, summary="How far a chat message is")
    async def status(
        self, request: AskRequest, conversations: TheConversations, job_id: FromPath[str]
    ) -> dict[str, Any]:
        """In the words of document 002: state, progress, returnvalue."""
        message = await conversations.of_job(request.user, id_of(job_id), Profile.CHAT)
        return {"success": True, "data": status_view(message)}


class ResearchController(Controller):
    path = "/api/deep-research"
    tags = ("conversations",)

    @post("/start", opt=WRITE, status_code=202, summary="Begin a research", responses=ACCEPTED)
    async def start(
        self,
        request: AskRequest,
        conversations: TheConversations,
        data: JSONBody[AskBody],
        body: RawBody,
        idempotency_key: IdempotencyKey = None,
    ) -> Response[bytes]:
        call = _call(request, idempotency_key, body)
        return (await conversations.ask(call, Profile.DEEP_RESEARCH, data)).response()

    @get("/status/{message_id:str}", opt=READ, summary="How far a research is")
    async def status(
        self, request: AskRequest, conversations: TheConversations, message_id: FromPath[str]
    ) -> dict[str, Any]:
        """In the words of document 002: state, progress, returnvalue."""
        message = await conversations.message(request.user, id_of(message_id), Profile.DEEP_RESEARCH)
        return {"success": True, "data": status_view(message)}


class MessagesController(Controller):
    path = "/api/messages"
    tags = ("conversations",)

    @get("/{message_id:str}", opt=READ, summary="A message: question, answer, what it cost")
    async def show(
        self, request: AskRequest, conversations: TheConversations, message_id: FromPath[str]
    ) -> dict[str, Any]:
        """Of a research with its state: the plan, and what each iteration brought."""
        return {"success": True, "data": await conversations.view(request.user, id_of(message_id))}

    @post("/{message_id:str}/retry", opt=WRITE, status_code=202, summary="Try a message again", responses=ACCEPTED)
    async def retry(
        self,
        request: AskRequest,
        conversations: TheConversations,
        message_id: FromPath[str],
        idempotency_key: IdempotencyKey = None,
    ) -> Response[bytes]:
        """One that failed or was cancelled. A research goes on where it stopped."""
        return (await conversations.retry(_call(request, idempotency_key, b""), id_of(message_id))).response()

    @post("/{message_id:str}/cancel", opt=WRITE, status_code=200, summary="End a message that is open")
    async def cancel(
        self, request: AskRequest, conversations: TheConversations, message_id: FromPath[str]
    ) -> dict[str, Any]:
        return {"success": True, "data": await conversations.cancel(request.user, id_of(message_id))}


class ConversationsController(Controller):
    path = "/api/conversations"
    tags = ("conversations",)

    @get("/", opt=READ | {"query": PAGE}, summary="The caller's conversations, newest first")
    async def index(self, request: AskRequest, conversations: TheConversations, query: QueryParams) -> dict[str, Any]:
        """Query: cursor, which is ``page.nextCursor`` of the page before; limit, 1 to 100, default 50."""
        page = read_page(query)
        found = await conversations.store.conversations(request.user.id, page.before, page.limit + 1)
        return {"success": True, "data": found[: page.limit], "page": _next(found, page.limit)}

    @get("/{conversation_id:str}", opt=READ | {"query": PAGE}, summary="A conversation and its newest messages")
    async def show(
        self, request: AskRequest, conversations: TheConversations, conversation_id: FromPath[str], query: QueryParams
    ) -> dict[str, Any]:
        """Messages newest first. Query: cursor, which is ``page.nextCursor`` of the page before; limit, 1 to 100."""
        page = read_page(query)
        found, messages = await conversations.conversation(request.user, id_of(conversation_id), page)
        data = {"conversation": found, "messages": messages[: page.limit]}
        return {"success": True, "data": data, "page": _next(messages, page.limit)}

    @delete("/{conversation_id:str}", opt=WRITE, summary="Delete a conversation, its messages and their answers")
    async def remove(
        self, request: AskRequest, conversations: TheConversations, conversation_id: FromPath[str]
    ) -> None:
        await conversations.delete(request.user, id_of(conversation_id))


def conversation_routes(conversations: Conversations, profiles: Collection[Profile]) -> Router:
    handlers: list[type[Controller]] = [MessagesController, ConversationsController]
    if Profile.CHAT in profiles:
        handlers.append(ChatController)
    if Profile.DEEP_RESEARCH in profiles:
        handlers.append(ResearchController)
    return OwnRouter(
        path="/",
        route_handlers=handlers,
        dependencies={"conversations": Provide(lambda: conversations, sync_to_thread=False)},
    )


def _call(request: AskRequest, key: str | None, body: bytes) -> Call:
    return Call(caller=request.user, key=key, request=request_hash(request.method, request.url.path, body))


def _next(found: list[Any], limit: int) -> dict[str, Any]:
    """``found`` has one more than ``limit`` if there is a next page."""
    return {"nextCursor": found[limit - 1].id if len(found) > limit else None, "limit": limit}
