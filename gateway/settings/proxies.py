"""Settings of what stands in front of the HTTP server."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field

from gateway.settings.values import words


def _networks(value: str) -> str:
    if value.strip() == "*":
        return "*"
    for word in words(value):
        try:
            ip_network(word)
        except ValueError as error:
            raise ValueError(f"is not an address or network such as 10.0.0.0/8, or * alone: {error}") from None
    return value


class ProxySettings(BaseModel):
    """A part of ``Settings``, which inherits it."""

    trusted_proxies: Annotated[str, AfterValidator(_networks)] = Field(
        "127.0.0.1",
        description="Addresses and networks of proxies whose X-Forwarded-For and X-Forwarded-Proto are believed, "
        "comma-separated; * is anybody.",
    )

    @property
    def trusted_networks(self) -> list[str]:
        return list(words(self.trusted_proxies))
