"""Every setting: its type, its default, one sentence. A field ``email_attempts`` is the variable ``EMAIL_ATTEMPTS``.

Values are checked one by one here; what they must be together is checked in ``rules.py``.
"""

from __future__ import annotations

import re
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from gateway.settings.mailbox import check_display_name, check_mailbox

QUEUES = ("email", "orchestration")  # what GATEWAY_QUEUES may name, short; in full with -queue
# RFC 6454, 6.2: scheme, host, port if it is not the scheme's own. Browsers send it without a slash at the end.
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^\s/?#@,]+", re.IGNORECASE)


class Role(StrEnum):
    """What a process is: both halves, the HTTP API alone, or the workers alone (with health and metrics)."""

    ALL = "all"
    API = "api"
    WORKER = "worker"


def _lower(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value


def _smtp_security(value: Any) -> Any:
    # Other mailers' SMTP_SECURE is a yes or no: yes is TLS from the first byte, no is STARTTLS where it is offered.
    words = {"true": "tls", "1": "tls", "yes": "tls", "false": "auto", "0": "auto", "no": "auto"}
    lowered = _lower(value)
    return words.get(lowered, lowered) if isinstance(lowered, str) else value


def _url_of(*schemes: str) -> AfterValidator:
    def check(value: str) -> str:
        parts = urlsplit(value)
        if "," in parts.netloc.rpartition("@")[2]:
            raise ValueError("names several hosts; give one server (Sentinel and Cluster are not supported yet)")
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
    for origin in _words(value):
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            raise ValueError(f'holds "{origin}", which is no origin such as https://shop.example (no path, no slash)')
    return value


PostgresUrl = Annotated[str, _url_of("postgresql", "postgres")]
RedisUrl = Annotated[str, _url_of("redis", "rediss", "unix")]
HttpUrl = Annotated[str, _url_of("https", "http")]
Port = Annotated[int, Field(ge=1, le=65_535)]
Count = Annotated[int, Field(ge=1, le=10_000)]
Positive = Annotated[int, Field(ge=1, le=2_000_000_000)]


class Settings(BaseModel):
    """The effective settings of one process; read once at start, then handed down."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    # The process
    port: Annotated[int, Field(ge=0, le=65_535)] = Field(
        3003, description="TCP port of the HTTP server; 0 takes a free one."
    )
    host: str = Field("0.0.0.0", description="Address on which the HTTP server listens.")
    gateway_env: Annotated[Literal["production", "development"], BeforeValidator(_lower)] = Field(
        "production", description="In development weak secrets are a warning; in production they stop the start."
    )
    gateway_role: Annotated[Role, BeforeValidator(_lower)] = Field(
        Role.ALL, description="What this process does: all, api (no workers) or worker (health and metrics only)."
    )
    gateway_queues: str = Field(
        "*", description="Queues that this process works on, comma-separated; * is all of them."
    )
    disable_background_workers: bool = Field(False, description="True runs no workers here, as GATEWAY_ROLE=api does.")
    shutdown_grace_s: Annotated[int, Field(ge=0, le=86_400)] = Field(
        630, description="Seconds that active jobs may still run after SIGTERM before they are handed back."
    )
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] = Field(
        "info", description="Least severe log line that is written: debug, info, warning or error."
    )
    log_format: Annotated[Literal["auto", "json", "console"], BeforeValidator(_lower)] = Field(
        "auto", description="Form of log lines: json, console, or auto (console on a terminal, else json)."
    )
    cors_origin: Annotated[str, AfterValidator(_origins)] | None = Field(
        None, description="Origins allowed to call from a browser, comma-separated; * is any."
    )

    # PostgreSQL and Redis
    database_url: PostgresUrl = Field(
        description="PostgreSQL, the ledger: postgresql://user:password@host:5432/name.", repr=False
    )
    database_pool_size: Annotated[int, Field(ge=2, le=500)] = Field(
        10, description="Most PostgreSQL connections of this process."
    )
    redis_url: RedisUrl | None = Field(
        None, description="Redis; without it, jobs are taken from PostgreSQL (direct mode).", repr=False
    )
    redis_host: str | None = Field(None, description="Host of Redis, where REDIS_URL is not used.")
    redis_port: Port = Field(6379, description="Port of Redis, beside REDIS_HOST.")
    redis_password: SecretStr | None = Field(None, description="Password of Redis, beside REDIS_HOST.")
    redis_queue_url: RedisUrl | None = Field(
        None, description="Redis for the queues, if it is another one than REDIS_URL.", repr=False
    )
    redis_required: bool = Field(False, description="True refuses to start while Redis does not answer.")
    use_job_queue: bool | None = Field(None, description="Dispatch by Redis; unset means: if a Redis is set.")

    # Queues
    email_queue_concurrency: Count = Field(5, description="E-mails that this process sends at once.")
    email_rate_max: Positive = Field(
        10, description="E-mails started in each EMAIL_RATE_DURATION_MS, over all processes."
    )
    email_rate_duration_ms: Positive = Field(
        1000, description="Length of the e-mail rate limit's window in milliseconds."
    )
    email_attempts: Count = Field(3, description="Attempts of an e-mail before it fails for good.")
    email_backoff_ms: Positive = Field(
        60_000, description="Delay after an e-mail's first failure in milliseconds, doubled each time."
    )
    email_timeout_ms: Positive = Field(
        60_000, description="Longest time for one attempt to send an e-mail, in milliseconds."
    )
    orchestration_queue_concurrency: Count = Field(3, description="Agent jobs that this process runs at once.")
    orchestration_rate_max: Positive = Field(
        5, description="Agent jobs started in each ORCHESTRATION_RATE_DURATION_MS, over all processes."
    )
    orchestration_rate_duration_ms: Positive = Field(
        60_000, description="Length of the agent rate limit's window in milliseconds."
    )
    orchestration_attempts: Count = Field(3, description="Attempts of an agent job before it fails for good.")
    orchestration_backoff_ms: Positive = Field(
        30_000, description="Delay after an agent job's first failure in milliseconds, doubled each time."
    )
    orchestration_timeout_ms: Positive = Field(
        600_000, description="Longest time for one attempt of an agent job, in milliseconds."
    )
    lock_duration_ms: Annotated[int, Field(ge=3000, le=3_600_000)] = Field(
        30_000, description="Lease of a running job in milliseconds, renewed each third of it."
    )
    stalled_interval_ms: Annotated[int, Field(ge=500, le=3_600_000)] = Field(
        30_000, description="Milliseconds between two searches for jobs whose process vanished."
    )
    max_stalled_count: Count = Field(2, description="A job whose process vanished this many times fails.")
    completed_retention_s: Positive = Field(86_400, description="Seconds for which completed jobs are kept.")
    completed_retention_count: Positive = Field(1000, description="Completed e-mail jobs kept at most.")
    orchestration_completed_retention_count: Positive = Field(500, description="Completed agent jobs kept at most.")
    failed_retention_s: Positive = Field(604_800, description="Seconds for which failed jobs are kept.")

    # Callers
    auth_mode: Annotated[Literal["jwt", "none"], BeforeValidator(_lower)] = Field(
        "jwt", description="jwt checks every caller; none makes everybody an admin, on a loopback HOST only."
    )
    jwt_secret: SecretStr | None = Field(None, description="Secret of HS256 tokens, 32 bytes or more.")
    jwt_jwks_url: HttpUrl | None = Field(
        None, description="Address of the public keys (JWKS) of RS256, ES256 or EdDSA tokens."
    )
    jwt_issuer: str | None = Field(None, description="Demanded iss claim; unset accepts any.")
    jwt_audience: str | None = Field(None, description="Demanded aud claim; must be set beside JWT_JWKS_URL.")
    jwt_leeway_s: Annotated[int, Field(ge=0, le=300)] = Field(
        30, description="Clock difference forgiven in tokens, in seconds."
    )

    # E-mail
    smtp_host: str | None = Field(None, description="Host of the SMTP server that takes the mails.")
    smtp_port: Port = Field(587, description="Port of the SMTP server.")
    smtp_user: str | None = Field(None, description="Login at the SMTP server; unset sends without one.")
    smtp_password: SecretStr | None = Field(None, description="Password beside SMTP_USER.")
    smtp_secure: Annotated[Literal["auto", "tls", "starttls", "none"], BeforeValidator(_smtp_security)] = Field(
        "auto",
        description="tls (at once), starttls (demanded), none, or auto (tls on port 465, else starttls if offered).",
    )
    smtp_ca_bundle: Path | None = Field(
        None, description="PEM file of further authorities trusted to sign the SMTP server's certificate."
    )
    smtp_from_email: Annotated[str, AfterValidator(_one_address)] | None = Field(
        None, description="Sender of mails that name none."
    )
    smtp_from_name: Annotated[str, AfterValidator(_display_name)] | None = Field(
        None, description="Sender's name beside SMTP_FROM_EMAIL."
    )
    smtp_pool_size: Annotated[int, Field(ge=1, le=1000)] = Field(
        5, description="Most SMTP connections of this process."
    )
    smtp_max_messages: Positive = Field(100, description="Mails sent over one SMTP connection before it is replaced.")
    smtp_max_age_s: Positive = Field(300, description="Seconds after which an SMTP connection is replaced.")
    smtp_timeout_s: Annotated[float, Field(gt=0, le=600)] = Field(
        20.0, description="Longest wait for one SMTP answer, in seconds."
    )

    @property
    def queue_redis_url(self) -> str | None:
        """Redis that dispatches jobs; None is direct mode."""
        if self.use_job_queue is False:
            return None
        return self.redis_queue_url or self.redis_url or self._redis_url_of_parts()

    def _redis_url_of_parts(self) -> str | None:
        if not self.redis_host:
            return None
        password = f":{quote(self.redis_password.get_secret_value(), safe='')}@" if self.redis_password else ""
        host = f"[{self.redis_host}]" if ":" in self.redis_host else self.redis_host
        return f"redis://{password}{host}:{self.redis_port}/0"

    @property
    def runs_workers(self) -> bool:
        return self.gateway_role is not Role.API and not self.disable_background_workers

    @property
    def serves_api(self) -> bool:
        return self.gateway_role is not Role.WORKER

    @property
    def queue_names(self) -> tuple[str, ...] | None:
        """Queues named in GATEWAY_QUEUES as they were written; None is all."""
        names = _words(self.gateway_queues)
        return None if "*" in names else names

    @property
    def cors_origins(self) -> tuple[str, ...]:
        return _words(self.cors_origin or "")

    @property
    def on_loopback(self) -> bool:
        """True if only this machine can reach the HTTP server."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False


def _words(value: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in value.split(",") if word.strip())
