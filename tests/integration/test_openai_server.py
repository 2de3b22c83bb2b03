"""The provider of the tests behaves as a real one does, seen through the client that everybody uses."""

from __future__ import annotations

from asyncio import Queue

import openai
import pytest

from tests.support.eventually import eventually
from tests.support.openai_server import Answer, Drop, broken, openai_server, rate_limited

ASK = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "How are you?"}]}
SCHEMA = {
    "type": "object",
    "properties": {"summary": {"type": "string"}, "priority": {"type": "integer", "minimum": 1, "maximum": 10}},
    "required": ["summary", "priority"],
    "additionalProperties": False,
}


def client(url: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(api_key="sk-test", base_url=url, max_retries=0, timeout=5)


async def test_answers_whole_and_streamed() -> None:
    async with openai_server() as provider, client(provider.url) as asking:
        provider.script(Answer("Fine, thank you."), Answer("Fine, thank you.", input_tokens=7, output_tokens=3))
        whole = await asking.chat.completions.create(**ASK)
        assert whole.choices[0].message.content == "Fine, thank you."
        stream = await asking.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True})
        chunks = [chunk async for chunk in stream]
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Fine, thank you."
        assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (7, 3)
        assert [call.key for call in provider.calls] == ["sk-test", "sk-test"]
        assert provider.calls[0].last_text == "How are you?"


async def test_fits_the_schema_without_a_script() -> None:
    async with openai_server() as provider, client(provider.url) as asking:
        form = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA}}
        whole = await asking.chat.completions.create(**ASK, response_format=form)
        assert '"priority": 5' in (whole.choices[0].message.content or "")


async def test_fails_on_command() -> None:
    async with openai_server() as provider, client(provider.url) as asking:
        provider.script(rate_limited("3"), broken(), Drop())
        with pytest.raises(openai.RateLimitError) as limited:
            await asking.chat.completions.create(**ASK)
        assert limited.value.response.headers["retry-after"] == "3"
        with pytest.raises(openai.InternalServerError):
            await asking.chat.completions.create(**ASK)
        with pytest.raises(openai.APIConnectionError):
            await asking.chat.completions.create(**ASK)


async def test_cuts_and_hangs_in_the_middle() -> None:
    async with openai_server() as provider, client(provider.url) as asking:
        provider.script(Answer("a" * 60, stop_after=2), Answer("a" * 60, stop_after=2, stop="hang"))
        pieces: Queue[str] = Queue()

        async def read(timeout_s: float) -> None:
            options = {"stream": True, "timeout": timeout_s}
            async for chunk in await asking.chat.completions.create(**ASK, **options):
                pieces.put_nowait(chunk.choices[0].delta.content)

        with pytest.raises(openai.APIConnectionError):
            await read(5)
        assert pieces.qsize() == 3  # the role, and two of text
        with pytest.raises(openai.APITimeoutError):
            await read(2)
        assert pieces.qsize() == 6
        await eventually(lambda: provider.disconnects == 1 and not provider.open_calls)
