"""One round with a model: what is asked, and what was heard. Pure."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from gateway.llm.model import Message, ModelError, ModelFailed, ModelRequest, Speaker

_BYTES_PER_TOKEN: Final = 4  # of English prose, about; for estimates only
_BETWEEN: Final = 4  # tokens around each message
_FILTERED: Final = "The provider's content filter stopped the answer."


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """``unknown``: a model that the price table does not have, on an endpoint of one's own."""

    model: str
    messages: tuple[Message, ...]
    max_output_tokens: int
    schema: dict[str, Any] | None = None
    schema_name: str = "answer"
    unknown: bool = False

    @property
    def input_estimate(self) -> int:
        schema = b"" if self.schema is None else msgspec.json.encode(self.schema)
        return _BETWEEN + sum(_BETWEEN + tokens_of(message.text) for message in self.messages) + len(schema) // 4

    def with_repair(self, answer: str, problem: str) -> Question:
        """The same question after an answer that did not do."""
        again = (
            f"{problem}\nAnswer again: one JSON object that fits the schema, and nothing around it. "
            "Keep what was right."
        )
        said = (Message(Speaker.ASSISTANT, answer), Message(Speaker.USER, again))
        return msgspec.structs.replace(self, messages=(*self.messages, *said))


class Heard:
    """An answer as it grows. Tokens are the provider's figures where it gave them."""

    def __init__(self) -> None:
        self.refusal = ""
        self.finish_reason: str | None = None
        self.answer_id: str | None = None  # the provider's
        self.model: str | None = None  # that answers, as the provider names it
        self.begun = False
        self.input_tokens: int | None = None
        self.output_tokens: int | None = None
        self._pieces: list[str] = []

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    def take(self, chunk: Any) -> str:
        """Add one event of a stream; answers its text. Servers leave out what they like."""
        self.begun = True
        self.answer_id = getattr(chunk, "id", None) or self.answer_id
        self.model = getattr(chunk, "model", None) or self.model
        usage = getattr(chunk, "usage", None)
        if usage is not None:
            self.input_tokens, self.output_tokens = int(usage.prompt_tokens), int(usage.completion_tokens)
        piece = ""
        for choice in getattr(chunk, "choices", None) or ():
            delta = choice.delta
            piece += getattr(delta, "content", None) or ""
            self.refusal += getattr(delta, "refusal", None) or ""
            self.finish_reason = choice.finish_reason or self.finish_reason
        if piece:
            self._pieces.append(piece)
        return piece

    def ending(self, provider: str) -> ModelError | None:
        """Why this is no whole answer, once the stream is over."""
        if self.finish_reason == "content_filter":
            self.refusal = self.refusal or _FILTERED
        if self.refusal:
            return None
        if self.finish_reason is None:
            what = "the stream ended before the answer did"
            return ModelFailed("cut" if self.text else "unavailable", f"{provider}: {what}")
        if self.finish_reason == "length":
            return ModelFailed("cut", f"{provider}: the answer is longer than the tokens that it may have")
        return None if self.text.strip() else ModelFailed("bad_answer", f"{provider}: the answer is empty")


def question_of(request: ModelRequest, *, tell_schema: bool, unknown: bool) -> Question:
    """``tell_schema``: say it in words too, where the provider is not known to heed ``response_format``."""
    messages = request.messages
    if request.schema is not None and tell_schema:
        schema = msgspec.json.encode(request.schema).decode()
        words = f"Answer with one JSON object and nothing around it. It must fit this JSON Schema:\n{schema}"
        # Into the first one: not every server takes two of them.
        first, rest = (messages[0].text, messages[1:]) if messages[0].speaker is Speaker.SYSTEM else ("", messages)
        messages = (Message(Speaker.SYSTEM, f"{first}\n\n{words}".strip()), *rest)
    return Question(
        model=request.model,
        messages=messages,
        max_output_tokens=request.max_output_tokens,
        schema=request.schema,
        schema_name=request.schema_name,
        unknown=unknown,
    )


def tokens_of(text: str) -> int:
    """An estimate, where nobody counted."""
    return -(-len(text.encode("utf-8", "replace")) // _BYTES_PER_TOKEN)
