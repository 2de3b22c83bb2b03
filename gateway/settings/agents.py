"""Settings of what agents need: model providers, GitHub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, SecretStr

from gateway.settings.values import HttpUrl, Repositories


class AgentSettings(BaseModel):
    """A part of ``Settings``, which inherits it."""

    openai_api_key: SecretStr | None = Field(None, description="Key of OpenAI, or of the endpoint OPENAI_BASE_URL.")
    openai_base_url: HttpUrl | None = Field(
        None,
        description="Another OpenAI-compatible endpoint than OpenAI's: a proxy, or a server of your own.",
        repr=False,
    )
    anthropic_api_key: SecretStr | None = Field(None, description="Key of Anthropic; serves the claude models.")
    anthropic_base_url: HttpUrl = Field(
        "https://api.anthropic.com/v1/", description="Anthropic's OpenAI-compatible endpoint.", repr=False
    )
    google_api_key: SecretStr | None = Field(None, description="Key of Google; serves the gemini models.")
    google_base_url: HttpUrl = Field(
        "https://generativelanguage.googleapis.com/v1beta/openai/",
        description="Google's OpenAI-compatible endpoint.",
        repr=False,
    )
    model_default: str | None = Field(
        None, description="Model of agents that name none; unset takes a small one of the first provider with a key."
    )
    model_stall_timeout_s: Annotated[float, Field(gt=0, le=3600)] = Field(
        180.0, description="Longest silence of a model in the middle of a call, in seconds."
    )

    github_token: SecretStr | None = Field(
        None,
        description="Token for GitHub's API; without one: public repositories, 60 calls an hour, nothing written.",
    )
    github_repositories: Repositories = Field(
        "",
        description="Repositories that projects may name, comma-separated: owner/name or owner/*; unset: with a token "
        "in production only operators may give a project one.",
    )
    github_api_url: HttpUrl = Field(
        "https://api.github.com", description="GitHub's API; of GitHub Enterprise: https://HOST/api/v3."
    )

    agents_dir: Path | None = Field(
        None, description="Directory of a team's own agents, one file <slug>.md each; read at start (docs/agents.md)."
    )
