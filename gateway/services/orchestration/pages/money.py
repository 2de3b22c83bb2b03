"""What runs cost, in words. Tokens of a model without a price cost something that nobody knows: never "0.00"."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from gateway.llm.providers import price_names
from gateway.services.orchestration.pages.store import PageStore

MICROS: Final = 1_000_000  # of a US dollar


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """``micros``: millionths of a US dollar that were counted. ``unknown``: there were tokens without a price."""

    micros: int
    unknown: bool
    words: str


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """``words`` say what was spent of what."""

    spent: int
    most: int
    words: str


def budget_of(spent: int, most: int) -> Budget:
    """Both in micros."""
    share = f" ({round(100 * spent / most)} %)" if most else ""
    return Budget(spent=spent, most=most, words=f"{dollars(spent)} of {dollars(most)}{share}")


def cost_of(micros: int, tokens: int, *, unknown: bool, demo: bool = False) -> Cost:
    if unknown:
        words = f"{dollars(micros)} and what is unknown" if micros else "cost unknown"
    elif micros:
        words = dollars(micros)
    elif tokens:
        words = "free"
    else:
        words = "none" if demo else "-"
    return Cost(micros=micros, unknown=unknown, words=words)


def dollars(micros: int) -> str:
    """``$12.30``, ``$0.041``, ``$0.000003``: no digit that counts is left out below a dollar."""
    if micros >= MICROS or micros == 0:
        return f"${micros / MICROS:,.2f}"
    whole, _, part = f"{micros / MICROS:.6f}".partition(".")
    return f"${whole}.{part.rstrip('0').ljust(2, '0')}"


async def without_price(store: PageStore, models: Iterable[str]) -> frozenset[str]:
    """Those of ``models`` that cost something or nobody knows what: tokens of theirs that were counted as nothing are
    of unknown cost. The others are free."""
    asked = {model: price_names(model) for model in set(models)}
    if not asked:
        return frozenset()
    prices = await store.prices([name for names in asked.values() for name in names])
    return frozenset(model for model, names in asked.items() if not _is_free(prices, names))


def _is_free(prices: dict[str, bool], names: Iterable[str]) -> bool:
    return next((prices[name] for name in names if name in prices), False)
