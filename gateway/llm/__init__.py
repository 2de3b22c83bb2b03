"""Language models: the adapter to their providers (docs/models.md). Features see ``Models`` alone."""

from __future__ import annotations

from typing import TypeAlias

import asyncpg

from gateway.infra.metrics import Metrics
from gateway.llm.demo import DemoModels
from gateway.llm.lanes import Lanes
from gateway.llm.models import ProviderModels
from gateway.llm.providers import default_model, providers_of
from gateway.llm.store import LaneStore
from gateway.settings import Settings

ModelsComponent: TypeAlias = ProviderModels | DemoModels


def open_models(
    settings: Settings, pool: asyncpg.Pool[asyncpg.Record], metrics: Metrics, *, demo: bool = False
) -> ModelsComponent:
    """Connects to nothing. ``demo``: where no provider can be called, a labelled demonstration answers instead of an
    error; for development alone."""
    providers = providers_of(settings)
    if demo and not providers:
        return DemoModels(metrics)
    return ProviderModels(providers, Lanes(LaneStore(pool)), metrics, settings.model_stall_timeout_s)


def configured_providers(settings: Settings) -> frozenset[str]:
    """Names of those that can be called from here."""
    return frozenset(providers_of(settings))


__all__ = ["ModelsComponent", "configured_providers", "default_model", "open_models"]
