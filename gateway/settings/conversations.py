"""Settings of the profiles ``chat`` and ``deep-research``: conversations with a model, off unless asked for."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, Field

from gateway.settings.values import Count, NoneOrMore, Positive, words

PROFILES: Final = ("chat", "deep-research")  # each is a queue of that name


class ConversationSettings(BaseModel):
    """A part of ``Settings``, which inherits it."""

    gateway_profiles: str = Field(
        "", description="Conversations that are offered, comma-separated: chat, deep-research; unset: none."
    )
    chat_queue_concurrency: Count = Field(5, description="Chat messages that this process answers at once.")
    chat_timeout_ms: Positive = Field(
        120_000, description="Longest time for one attempt to answer a chat message, in milliseconds."
    )
    chat_rate_limit_per_minute: Annotated[int, Field(ge=0, le=10_000)] = Field(
        10, description="Chat messages of one caller in any minute, over all processes; 0 is no limit."
    )
    deep_research_queue_concurrency: Count = Field(
        3, description="Iterations of research that this process runs at once."
    )
    deep_research_timeout_ms: Positive = Field(
        300_000, description="Longest time for one iteration of a research, in milliseconds; the whole has no limit."
    )
    deep_research_rate_limit_per_5min: Annotated[int, Field(ge=0, le=10_000)] = Field(
        3, description="Researches of one caller begun in any five minutes, over all processes; 0 is no limit."
    )
    deep_research_max_iterations: Annotated[int, Field(ge=4, le=100)] = Field(
        12, description="Most iterations of one research: a plan, searches, an analysis or two, and the report."
    )
    deep_research_budget_cents: NoneOrMore = Field(
        200, description="US cents after which a research begins no further iteration; 0 is no limit."
    )

    @property
    def profiles(self) -> tuple[str, ...]:
        """Profiles that are on, in their order."""
        named = words(self.gateway_profiles)
        return tuple(profile for profile in PROFILES if profile in named)
