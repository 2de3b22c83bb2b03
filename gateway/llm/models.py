"""``Models`` over the providers that have a key (docs/models.md)."""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import TYPE_CHECKING, Final

import structlog

from gateway.infra.metrics import Metrics
from gateway.llm.asking import Asking, Client, Desk, Served
from gateway.llm.exchange import question_of
from gateway.llm.lanes import Lanes
from gateway.llm.model import ModelAnswer, ModelRefusedCall, ModelRequest, OnToken
from gateway.llm.providers import KEY_SETTINGS, OPENAI, Provider, price_names

if TYPE_CHECKING:
    from gateway.llm.openai_client import OpenAIClient

log = structlog.get_logger(__name__)

_TOLD_MAX: Final = 1000


class ProviderModels:
    """A component. Nothing is imported, opened or asked before the first call."""

    name = "models"

    def __init__(self, providers: dict[str, Provider], lanes: Lanes, metrics: Metrics, stall_s: float) -> None:
        self._providers = providers
        own = providers.get(OPENAI)
        self._own = own if own is not None and own.own else None
        self._lanes = lanes
        self._desk = Desk(lanes, metrics, self._client)
        self._stall_s = stall_s
        self._clients: dict[str, OpenAIClient] = {}
        self._told: set[str] = set()  # models without a price that the log has told of

    async def start(self) -> None:
        log.info("models_ready", providers=sorted(self._providers), own_endpoint=self._own is not None)

    async def stop(self) -> None:
        clients = tuple(self._clients.values())
        self._clients.clear()
        await asyncio.gather(*(client.close() for client in clients))

    async def complete(self, request: ModelRequest, on_token: OnToken | None = None) -> ModelAnswer:
        served = await self._served(request.model)
        if request.budgeted and served.price is None:
            raise _unpriced(request.model)
        # Anthropic's endpoint ignores response_format, and nobody knows what another server does.
        tell_schema = served.provider.name != OPENAI or served.provider.own
        question = question_of(request, tell_schema=tell_schema, unknown=served.price is None)
        return await Asking(self._desk, served, request, on_token).answer(question)

    async def _served(self, model: str) -> Served:
        price = await self._lanes.price(price_names(model))
        if price is not None:
            provider = self._providers.get(price.provider, self._own)
            if provider is None:
                setting = KEY_SETTINGS[price.provider]
                raise ModelRefusedCall("not_configured", f"{model} needs {setting}, which is not set.")
            return Served(model, provider, price)
        if self._own is None:
            known = ", ".join(await self._lanes.known_models())
            raise ModelRefusedCall(
                "unknown_model", f"No model {model} is known, so neither is its price. Known: {known}."
            )
        if model not in self._told and len(self._told) < _TOLD_MAX:
            self._told.add(model)
            log.warning("model_without_price", model=model, provider=self._own.name, recorded_cost=0)
        return Served(model, self._own, None)

    async def _client(self, provider: Provider) -> Client:
        if provider.name not in self._clients:
            # In a thread: importing the library takes a second, and the loop must go on.
            module = await asyncio.to_thread(import_module, "gateway.llm.openai_client")
            self._clients.setdefault(provider.name, module.OpenAIClient(provider, self._stall_s))
        return self._clients[provider.name]


def _unpriced(model: str) -> ModelRefusedCall:
    message = (
        f"{model} has no price, and a budget is set that would not count what it costs. Set its price, 0 if it costs "
        f"nothing: gateway models price {model} --provider {OPENAI} --input USD --output USD (for a million tokens), "
        "or take the budget away."
    )
    return ModelRefusedCall("unknown_model", message)
