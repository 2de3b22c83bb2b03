"""Who serves a model. Pure: made from the settings, connected to nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from pydantic import SecretStr

from gateway.settings import Settings

OPENAI: Final = "openai"
ANTHROPIC: Final = "anthropic"
GOOGLE: Final = "google"
OPENAI_URL: Final = "https://api.openai.com/v1"
KEY_SETTINGS: Final = {OPENAI: "OPENAI_API_KEY", ANTHROPIC: "ANTHROPIC_API_KEY", GOOGLE: "GOOGLE_API_KEY"}
# Small ones: agents that want another say so.
_DEFAULT_MODELS: Final = {OPENAI: "gpt-5-mini", ANTHROPIC: "claude-haiku-4-5", GOOGLE: "gemini-2.5-flash"}
_NO_KEY: Final = "none"  # servers of one's own often ask for no key, but the client does
_DATED: Final = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8}|latest)$")


@dataclass(frozen=True, slots=True)
class Provider:
    """One endpoint. ``own``: OPENAI_BASE_URL names it, so that it may serve any model."""

    name: str
    base_url: str
    key: str = field(repr=False)
    own: bool = False

    @property
    def secret(self) -> bool:
        """Whether there is a key at all."""
        return self.key != _NO_KEY


def providers_of(settings: Settings) -> dict[str, Provider]:
    """Those that can be called, by name."""
    found = {}
    if settings.openai_api_key or settings.openai_base_url:
        found[OPENAI] = Provider(
            OPENAI,
            settings.openai_base_url or OPENAI_URL,
            _secret(settings.openai_api_key),
            own=settings.openai_base_url is not None,
        )
    if settings.anthropic_api_key:
        found[ANTHROPIC] = Provider(ANTHROPIC, settings.anthropic_base_url, _secret(settings.anthropic_api_key))
    if settings.google_api_key:
        found[GOOGLE] = Provider(GOOGLE, settings.google_base_url, _secret(settings.google_api_key))
    return found


def default_model(settings: Settings) -> str:
    """The model of whoever names none: MODEL_DEFAULT, else a small one of the first provider that has a key."""
    if settings.model_default:
        return settings.model_default
    return _DEFAULT_MODELS[next(iter(providers_of(settings)), OPENAI)]


def price_names(model: str) -> tuple[str, ...]:
    """Under which names a model may stand in the price table: its own, and that without a date or "latest"."""
    plain = _DATED.sub("", model)
    return (model,) if plain == model else (model, plain)


def _secret(value: SecretStr | None) -> str:
    return _NO_KEY if value is None else value.get_secret_value()
