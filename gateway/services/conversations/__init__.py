"""Conversations: the profiles ``chat`` and ``deep-research`` of document 002 as two further queues, off unless
GATEWAY_PROFILES names them (docs/conversations.md)."""

from __future__ import annotations

from gateway.feature import Feature, Platform


def features(platform: Platform) -> tuple[Feature, ...]:
    """One for the profiles that are on; none where none is: no queue, no route, no chore."""
    if not platform.settings.profiles:
        return ()
    from gateway.services.conversations.assembly import feature  # noqa: PLC0415  # off costs nothing

    return (feature(platform),)
