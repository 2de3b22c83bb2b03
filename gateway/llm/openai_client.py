"""One endpoint that speaks OpenAI's chat completions, through the ``openai`` client. Import it when a call is made: it
takes a second and tens of megabytes."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx
import msgspec
import openai

from gateway.llm.exchange import Heard, Question
from gateway.llm.model import ModelError, ModelFailed, OnToken
from gateway.llm.providers import ANTHROPIC, OPENAI, Provider
from gateway.llm.said import Said, error_of, retry_after_s
from gateway.llm.schema import is_strict

CONNECT_TIMEOUT_S: Final = 5.0
_ANTHROPIC_VERSION: Final = "2023-06-01"
# At debug level these write requests down: prompts. OPENAI_LOG would turn that on too.
for _name in ("openai", "httpx2", "httpcore2", "httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)


class OpenAIClient:
    """Calls one provider. ``stall_s``: the longest silence inside a call."""

    def __init__(self, provider: Provider, stall_s: float) -> None:
        self._provider = provider
        self._client = openai.AsyncOpenAI(
            api_key=provider.key,
            base_url=provider.base_url,
            max_retries=0,  # the job's attempts are the only retries (T59)
            timeout=openai.Timeout(stall_s, connect=min(CONNECT_TIMEOUT_S, stall_s)),
        )
        # Read from the environment by the client, and meant for OpenAI alone.
        self._client.organization = self._client.project = None

    async def ask(self, question: Question, heard: Heard, on_token: OnToken | None) -> None:
        """Put what comes into ``heard`` as it comes; also when this is cancelled or raises ``ModelError``."""
        async with self._errors(question.model, heard):
            stream: Any = await self._client.chat.completions.create(**_body(question, self._provider))
            async with stream:
                async for chunk in stream:
                    piece = heard.take(chunk)
                    if piece and on_token is not None:
                        on_token(piece)

    async def models(self) -> int:
        """How many models it lists: whether it is there and takes the key, at no cost. Raises ``ModelError``."""
        # Anthropic's list is not part of its OpenAI-compatible endpoint: it wants these two.
        own = {"x-api-key": self._provider.key, "anthropic-version": _ANTHROPIC_VERSION}
        async with self._errors("", Heard()):
            page = await self._client.models.list(extra_headers=own if self._provider.name == ANTHROPIC else None)
            return len(page.data)

    async def close(self) -> None:
        await self._client.close()

    @asynccontextmanager
    async def _errors(self, model: str, heard: Heard) -> AsyncIterator[None]:
        try:
            yield
        except openai.APIStatusError as error:
            raise self._meant(_said(error), model) from error
        except (openai.APITimeoutError, httpx.TimeoutException) as error:
            raise self._broken("timeout", "it was silent for too long", heard) from error
        except (openai.APIConnectionError, httpx.TransportError) as error:
            raise self._broken("unavailable", f"the connection broke ({_cause(error)})", heard) from error
        except openai.APIError as error:  # an error event in the stream
            raise self._meant(Said(message=error.message, code=_codes(error.body)), model) from error
        except (ValueError, TypeError, AttributeError, LookupError) as error:
            # What the client and ``heard`` raise for events of another shape than documented.
            raise self._broken("unavailable", f"it sent what is no answer ({type(error).__name__})", heard) from error

    def _meant(self, said: Said, model: str) -> ModelError:
        """Servers repeat what they were given: whatever the key looks like, it is in no row and no log."""
        message = said.message.replace(self._provider.key, "•••") if self._provider.secret else said.message
        return error_of(msgspec.structs.replace(said, message=message), self._provider.name, model)

    def _broken(self, kind: str, what: str, heard: Heard) -> ModelError:
        if heard.text and kind == "unavailable":
            kind = "cut"
        return ModelFailed(kind, f"{self._provider.name}: {what}, after {len(heard.text)} characters")


def _body(question: Question, provider: Provider) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": question.model,
        "messages": [{"role": str(message.speaker), "content": message.text} for message in question.messages],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    # OpenAI's newer models refuse the old name, other servers do not know the new one.
    new = provider.name == OPENAI and not question.unknown
    body["max_completion_tokens" if new else "max_tokens"] = question.max_output_tokens
    if question.schema is not None:
        strict = is_strict(question.schema)
        form = {"name": question.schema_name, "schema": question.schema, "strict": strict}
        body["response_format"] = {"type": "json_schema", "json_schema": form}
    return body


def _said(error: openai.APIStatusError) -> Said:
    return Said(
        message=error.message,
        status=error.status_code,
        code=_codes(error.body),
        retry_after_s=retry_after_s(error.response.headers),
    )


def _codes(body: Any) -> str:
    """Code and type of an error's body, whichever are there."""
    if isinstance(body, list) and body:  # Google's form
        body = body[0]
    if not isinstance(body, dict):
        return ""
    inside = body.get("error", body)
    found = inside if isinstance(inside, dict) else body
    return " ".join(str(found[key]) for key in ("code", "type", "status") if found.get(key))


def _cause(error: BaseException) -> str:
    cause = error.__cause__ or error
    return type(cause).__name__
