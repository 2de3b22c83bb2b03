"""Logs: a stable ``event`` and fields, one line each, with secrets and addresses masked.

``request_id``, ``job_id`` and ``queue`` come from context variables (``structlog.contextvars``): every line that is
written while a request or job is handled has them. Libraries' own logging goes through the same processors.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from collections.abc import Mapping, MutableMapping
from typing import Any, Final, Literal, TextIO

import msgspec
import structlog

MASK: Final = "•••"
_SECRET_KEY: Final = re.compile(
    r"(^|[_-])(authorization|password|passwd|pwd|secret|token|api[_-]?key|cookie|credentials?)$", re.IGNORECASE
)
# A Message-ID has an @ too; exceptions are masked when they are rendered.
_UNMASKED_KEYS: Final = frozenset({"level", "timestamp", "logger", "message_id", "messageId", "exc_info", "stack_info"})
_BEARER: Final = re.compile(r"\b(bearer)\s+[\w.~+/=-]+", re.IGNORECASE)
# Base64 (RFC 7617), not the English word and the one after it.
_BASIC: Final = re.compile(r"\b([Bb]asic|BASIC)\s+(?=[\w+/-]+[A-Z0-9=])[\w+/-]{6,}={0,2}")
# How keys begin, by who gives them: ours, OpenAI and those like it, Stripe, GitHub, GitLab, Slack, Google, SendGrid.
_BEGINNINGS: Final = ("gw_", "sk-", "_live_", "_test_", "gh", "glpat-", "xox", "AIza", "SG.", "whsec_")
_KEY: Final = re.compile(
    r"\b(gw_|sk-|[sr]k_(?:live|test)_|gh[opsur]_|github_pat_|glpat-|xox[a-z]-|AIza|SG\.|whsec_)[\w.-]{16,}"
)
# From each start of a run once, however often "eyJ" is in it: some texts are megabytes.
_JWT: Final = re.compile(r"(?<![\w-])((?:(?!\beyJ)[\w-])*+)eyJ[\w-]++\.[\w-]*\.[\w-]*")
# Up to the last @ of the authority: passwords have them too, and users that are addresses. A slash that should have
# been encoded is taken for the password's unless a port is before it.
_URL_PASSWORD: Final = re.compile(
    r"(?<=\w)(://[^\s/:?#\[\"'<>]*):(?:[^\s/\"'<>]+@|(?!\d+[/?#])[^\s@:,\"'<>]{1,200}@)",
)
_ENCODED_URL_PASSWORD: Final = re.compile(
    r"(%3A%2F%2F(?:(?!%3A|%2F)[^\s&\"'<>])*+%3A)(?:(?!%2F|%40)[^\s&\"'<>])++(?=%40)", re.IGNORECASE
)
_NAMES: Final = r"(?:password|passwd|pwd|passphrase|secret|token|signature|api[_-]?key|access[_-]?key|private[_-]?key)"
# As in libpq's key words, in queries of addresses, also encoded ones, and in .NET's strings.
_NAMED: Final = re.compile(
    rf"({_NAMES}(?:=|%3D))(?!{MASK})(?:\"[^\"]*\"|'[^']*'|[^\s&;,\"'<>]+)",
    re.IGNORECASE,
)
# In JSON that is a text within a text, with its quotes as they are or behind backslashes.
_QUOTED: Final = re.compile(rf"({_NAMES}([\"']) ?:\s*([\"']))(?:\\.|(?!\3)[^\\])++", re.IGNORECASE | re.DOTALL)
_ESCAPED: Final = re.compile(rf"({_NAMES}\\+[\"']\s*:\s*\\+[\"'])(?:(?!\\+[\"']).)++", re.IGNORECASE | re.DOTALL)
_HEADER: Final = re.compile(
    r"\b(api-key:[ \t]*|cookie:[ \t]*(?=[^\s=;]{1,100}=))(?!•)[^\s\"'][^\r\n\"']*", re.IGNORECASE
)
_PRIVATE_KEY: Final = re.compile(r"(-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(-----END [A-Z ]*-----|$)", re.DOTALL)
# The character before the local part keeps "user:password@host" of a URL out; domains end in a letter.
_ADDRESS: Final = re.compile(r"(?<![\w.+%/•-])([\w+%-])[\w.+%'-]{0,254}+@((?:[\w-]+\.)*[\w-]*[a-zA-Z])")
# In this order: words of which a text with such a secret has one (most have none), the secret, what is shown of it.
_SECRETS: Final = (
    (("://",), _URL_PASSWORD, rf"\1:{MASK}@"),
    (("%40",), _ENCODED_URL_PASSWORD, rf"\1{MASK}"),
    (("earer", "EARER"), _BEARER, rf"\1 {MASK}"),
    (("asic ", "ASIC "), _BASIC, rf"\1 {MASK}"),
    (_BEGINNINGS, _KEY, rf"\1{MASK}"),
    (("=", "%3"), _NAMED, rf"\1{MASK}"),
    (('":', "':", '" :', "' :"), _QUOTED, rf"\1{MASK}"),
    (("\\",), _ESCAPED, rf"\1{MASK}"),
    (("ey:", "EY:", "ie:", "IE:"), _HEADER, rf"\1{MASK}"),
    (("PRIVATE KEY",), _PRIVATE_KEY, rf"\1{MASK}\2"),
    (("eyJ",), _JWT, rf"\1{MASK}"),
)
_DEPTH: Final = 4  # of nested values; deeper ones are not log fields but documents

EventDict = MutableMapping[str, Any]


def configure_logging(
    level: str = "info",
    form: Literal["auto", "json", "console"] = "auto",
    *,
    instance: str | None = None,
    stream: TextIO | None = None,
) -> None:
    """Send structlog and the standard library's logging to ``stream`` (standard error) in one form.

    ``form`` auto is console on a terminal and json elsewhere. ``instance`` stands in every line. Safe to call again.
    """
    out = stream or sys.stderr
    console = form == "console" or (form == "auto" and out.isatty())
    threshold = logging.getLevelNamesMapping()[level.upper()]
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _Instance(instance),
    ]
    final: list[structlog.types.Processor] = (
        [mask_secrets, structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=_masked_traceback)]
        if console
        else [structlog.processors.format_exc_info, mask_secrets, structlog.processors.JSONRenderer(_json)]
    )
    structlog.configure(
        processors=[*shared, *final],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(out),
        cache_logger_on_first_use=False,  # loggers are made at import, before settings are known
    )
    _route_stdlib(threshold, out, shared, final)


def _route_stdlib(
    threshold: int, out: TextIO, shared: list[structlog.types.Processor], final: list[structlog.types.Processor]
) -> None:
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(threshold)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "saq", "asyncio", "litestar"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    # A line for each request, or for each start and stop of theirs; ours say more.
    for name in ("httpx", "httpcore", "uvicorn", "uvicorn.error", "uvicorn.access", "saq"):
        logging.getLogger(name).setLevel(max(threshold, logging.WARNING))


class _Instance:
    def __init__(self, instance: str | None) -> None:
        self._instance = instance

    def __call__(self, _logger: Any, _method: str, event: EventDict) -> EventDict:
        if self._instance is not None:
            event.setdefault("instance", self._instance)
        return event


def _masked_traceback(out: TextIO, exc_info: structlog.types.ExcInfo) -> None:
    out.write("\n" + mask_text("".join(traceback.format_exception(*exc_info)).rstrip()))


def _json(event: EventDict, **_options: Any) -> str:
    return msgspec.json.encode(event, enc_hook=str).decode()


def mask_secrets(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Replace values of secret-like names, and tokens, passwords and addresses inside of other values."""
    for key, value in event.items():
        if key not in _UNMASKED_KEYS:
            event[key] = _masked(key, value, _DEPTH)
    return event


def _masked(key: str, value: Any, depth: int) -> Any:
    if value is not None and _SECRET_KEY.search(key):
        return MASK
    if isinstance(value, str):
        return mask_text(value)
    if depth == 0:
        return value
    if isinstance(value, Mapping):
        return {name: _masked(str(name), inner, depth - 1) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(key, inner, depth - 1) for inner in value]
    return mask_text(str(value)) if isinstance(value, BaseException) else value


def mask_text(text: str) -> str:
    """``you@example.com`` becomes ``y***@example.com``; bearer tokens, API keys and URL passwords vanish."""
    text = without_secrets(text)
    return _ADDRESS.sub(r"\1***@\2", text) if "@" in text else text


def without_secrets(text: str) -> str:
    """The text with bearer tokens, API keys, JWTs, private keys, passwords of URLs and what is named as one masked;
    addresses stay."""
    for words, secret, shown in _SECRETS:
        for word in words:  # no any(): each value of each line of the log goes through here
            if word in text:
                text = secret.sub(shown, text)
                break
    return text
