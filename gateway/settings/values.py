"""What one setting may hold: types, each with its check."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

from gateway.settings.mailbox import check_display_name, check_mailbox
from gateway.settings.redis_target import redis_target

# RFC 6454, 6.2: scheme, host, port if it is not the scheme's own. Browsers send it without a slash at the end.
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^\s/?#@,]+", re.IGNORECASE)

_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,38}/(\*|[A-Za-z0-9._-]{1,100})")


def words(value: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in value.split(",") if word.strip())


def _lower(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value


def _smtp_security(value: Any) -> Any:
    # Other mailers' SMTP_SECURE is a yes or no: yes is TLS from the first byte, no is STARTTLS where it is offered.
    modes = {"true": "tls", "1": "tls", "yes": "tls", "false": "auto", "0": "auto", "no": "auto"}
    lowered = _lower(value)
    return modes.get(lowered, lowered) if isinstance(lowered, str) else value


def _url_of(*schemes: str) -> AfterValidator:
    def check(value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in schemes or not (parts.hostname or parts.path or parts.query):
            raise ValueError(f"is not an address that starts with {' or '.join(f'{s}://' for s in schemes)}")
        if parts.port is not None and not 0 < parts.port < 65_536:  # urlsplit raises ValueError on other nonsense
            raise ValueError("has a port outside 1..65535")
        return value

    return AfterValidator(check)


def _one_address(value: str) -> str:
    if any(c in value for c in " <>,;\r\n"):
        raise ValueError("is not one bare address such as no-reply@shop.example (the name goes into SMTP_FROM_NAME)")
    check_mailbox(value)
    return value


def _display_name(value: str) -> str:
    check_display_name(value)
    return value


def _origins(value: str) -> str:
    for origin in words(value):
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            raise ValueError(f'holds "{origin}", which is no origin such as https://shop.example (no path, no slash)')
    return value


def _repositories(value: str) -> str:
    for word in words(value):
        if not _REPOSITORY.fullmatch(word):
            raise ValueError(f'holds "{word}", which is neither owner/name nor owner/* (without https://)')
    return value


def _redis_address(value: str) -> str:
    redis_target(value)
    return value


def _redis_host(value: str) -> str:
    if "," in value or "/" in value or value.count(":") == 1:
        raise ValueError("is not one host; a port goes into REDIS_PORT, several hosts or an address into REDIS_URL")
    return value


Lowered = BeforeValidator(_lower)
SmtpSecurity = Annotated[Literal["auto", "tls", "starttls", "none"], BeforeValidator(_smtp_security)]
MailAddress = Annotated[str, AfterValidator(_one_address)]
DisplayName = Annotated[str, AfterValidator(_display_name)]
Origins = Annotated[str, AfterValidator(_origins)]
Repositories = Annotated[str, AfterValidator(_repositories)]
PostgresUrl = Annotated[str, _url_of("postgresql", "postgres")]
RedisUrl = Annotated[str, AfterValidator(_redis_address)]
RedisHost = Annotated[str, AfterValidator(_redis_host)]
HttpUrl = Annotated[str, _url_of("https", "http")]
Port = Annotated[int, Field(ge=1, le=65_535)]
Count = Annotated[int, Field(ge=1, le=10_000)]
NoneOrMore = Annotated[int, Field(ge=0, le=2_000_000_000)]
Positive = Annotated[int, Field(ge=1, le=2_000_000_000)]
