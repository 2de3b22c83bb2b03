"""Every setting: its type, its default, one sentence. A field ``email_attempts`` is the variable ``EMAIL_ATTEMPTS``.

Values are checked one by one here; what they must be together is checked in ``rules.py``.
"""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, SecretStr

from gateway.settings.agents import AgentSettings
from gateway.settings.conversations import ConversationSettings
from gateway.settings.machines import MachineSettings
from gateway.settings.proxies import ProxySettings
from gateway.settings.realtime import RealtimeSettings
from gateway.settings.redis_target import SENTINEL_PORT, SERVER_PORT, RedisForm, RedisTarget, redis_target
from gateway.settings.retention import RetentionSettings
from gateway.settings.values import (
    Count,
    DisplayName,
    HttpUrl,
    Lowered,
    MailAddress,
    NoneOrMore,
    Origins,
    Port,
    Positive,
    PostgresUrl,
    RedisHost,
    RedisUrl,
    SmtpSecurity,
    words,
)

QUEUES = ("email", "orchestration")  # what GATEWAY_QUEUES may name, short; in full with -queue


class Role(StrEnum):
    """What a process is: both halves, the HTTP API alone, or the workers alone (with health and metrics)."""

    ALL = "all"
    API = "api"
    WORKER = "worker"


class Settings(
    AgentSettings, ConversationSettings, MachineSettings, ProxySettings, RealtimeSettings, RetentionSettings
):
    """The effective settings of one process; read once at start, then handed down."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    # The process
    port: Annotated[int, Field(ge=0, le=65_535)] = Field(
        3003, description="TCP port of the HTTP server; 0 takes a free one."
    )
    host: str = Field("0.0.0.0", description="Address on which the HTTP server listens.")
    gateway_env: Annotated[Literal["production", "development"], Lowered] = Field(
        "production", description="In development weak secrets are a warning; in production they stop the start."
    )
    gateway_role: Annotated[Role, Lowered] = Field(
        Role.ALL, description="What this process does: all, api (no workers) or worker (health and metrics only)."
    )
    gateway_queues: str = Field(
        "*", description="Queues that this process works on, comma-separated; * is all of them."
    )
    disable_background_workers: bool = Field(False, description="True runs no workers here, as GATEWAY_ROLE=api does.")
    shutdown_grace_s: Annotated[int, Field(ge=0, le=86_400)] = Field(
        630, description="Seconds that active jobs may still run after SIGTERM before they are handed back."
    )
    ready_loop_lag_max_ms: NoneOrMore = Field(
        1000, description="Milliseconds of event loop lag above which, for 5 s, this replica is not ready; 0 is never."
    )
    log_level: Annotated[Literal["debug", "info", "warning", "error"], Lowered] = Field(
        "info", description="Least severe log line that is written: debug, info, warning or error."
    )
    log_format: Annotated[Literal["auto", "json", "console"], Lowered] = Field(
        "auto", description="Form of log lines: json, console, or auto (console on a terminal, else json)."
    )
    otel_exporter_otlp_endpoint: HttpUrl | None = Field(
        None, description="OpenTelemetry collector (OTLP over HTTP, http://host:4318) to which traces are sent."
    )
    cors_origin: Origins | None = Field(
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
        None,
        description="Redis: redis://, rediss:// (TLS) or unix://; without it, PostgreSQL dispatches (direct mode).",
        repr=False,
    )
    redis_host: RedisHost | None = Field(None, description="Host of Redis, where REDIS_URL is not used.")
    redis_port: Port = Field(6379, description="Port of Redis, beside REDIS_HOST.")
    redis_password: SecretStr | None = Field(
        None, description="Password of Redis, beside REDIS_HOST, or where REDIS_URL holds none."
    )
    redis_queue_url: RedisUrl | None = Field(
        None, description="Redis for the queues, if it is another one than REDIS_URL.", repr=False
    )
    redis_sentinel_name: str | None = Field(
        None, description="Name of the master, where the addresses are those of sentinels: redis://s1:26379,s2:26379."
    )
    redis_sentinel_password: SecretStr | None = Field(
        None, description="Password of the sentinels, if they ask for one; that of the servers stands in the address."
    )
    redis_cluster_mode: bool = Field(
        False, description="True where the addresses are nodes of a Redis Cluster: redis://n1:6379,n2:6379."
    )
    redis_ca_bundle: Path | None = Field(
        None, description="PEM file of further authorities trusted to sign the certificates of rediss:// servers."
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
    email_queue_max_waiting: NoneOrMore = Field(
        0, description="Waiting and delayed e-mails at which further ones are refused with 429; 0 is no bound."
    )
    email_group_by: Annotated[Literal["none", "domain", "owner"], Lowered] = Field(
        "none",
        description="Group of e-mails that name none: none, domain (of the first recipient) or owner (who sent it).",
    )
    email_group_concurrency: NoneOrMore = Field(
        0, description="E-mails of one group sent at once, over all processes; 0 is no limit."
    )
    email_group_rate_max: NoneOrMore = Field(
        0,
        description="E-mails of one group started in each EMAIL_GROUP_RATE_DURATION_MS, over all processes; 0 is any.",
    )
    email_group_rate_duration_ms: Positive = Field(
        1000, description="Length of the window of EMAIL_GROUP_RATE_MAX in milliseconds."
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
    orchestration_queue_max_waiting: NoneOrMore = Field(
        0, description="Waiting and delayed agent jobs at which further ones are refused with 429; 0 is no bound."
    )
    orchestration_group_concurrency: NoneOrMore = Field(
        0, description="Agent jobs of one group run at once, over all processes; 0 is no limit."
    )
    orchestration_group_rate_max: NoneOrMore = Field(
        0, description="Agent jobs of one group started in each ORCHESTRATION_GROUP_RATE_DURATION_MS; 0 is any."
    )
    orchestration_group_rate_duration_ms: Positive = Field(
        60_000, description="Length of the window of ORCHESTRATION_GROUP_RATE_MAX in milliseconds."
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
    auth_mode: Annotated[Literal["jwt", "none"], Lowered] = Field(
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
    smtp_secure: SmtpSecurity = Field(
        "auto",
        description="tls (at once), starttls (demanded), none, or auto (tls on port 465, else starttls if offered).",
    )
    smtp_ca_bundle: Path | None = Field(
        None, description="PEM file of further authorities trusted to sign the SMTP server's certificate."
    )
    smtp_from_email: MailAddress | None = Field(None, description="Sender of mails that name none.")
    smtp_from_name: DisplayName | None = Field(None, description="Sender's name beside SMTP_FROM_EMAIL.")
    smtp_pool_size: Annotated[int, Field(ge=1, le=1000)] = Field(
        5, description="Most SMTP connections of this process."
    )
    smtp_max_messages: Positive = Field(100, description="Mails sent over one SMTP connection before it is replaced.")
    smtp_max_age_s: Positive = Field(300, description="Seconds after which an SMTP connection is replaced.")
    smtp_timeout_s: Annotated[float, Field(gt=0, le=600)] = Field(
        20.0, description="Longest wait for one SMTP answer, in seconds."
    )

    @property
    def queue_redis_setting(self) -> str | None:
        """The variable that says which Redis dispatches jobs; None is direct mode."""
        if self.use_job_queue is False:
            return None
        if self.redis_queue_url:
            return "REDIS_QUEUE_URL"
        if self.redis_url:
            return "REDIS_URL"
        return "REDIS_HOST" if self.redis_host else None

    @property
    def queue_redis(self) -> RedisTarget | None:
        """Redis that dispatches jobs; None is direct mode."""
        form, port = RedisForm.SERVER, SERVER_PORT
        if self.redis_cluster_mode:
            form = RedisForm.CLUSTER
        elif self.redis_sentinel_name is not None:
            form, port = RedisForm.SENTINEL, SENTINEL_PORT
        match self.queue_redis_setting:
            case "REDIS_QUEUE_URL" if self.redis_queue_url:
                target, password = redis_target(self.redis_queue_url, default_port=port), None
            case "REDIS_URL" if self.redis_url:
                target, password = redis_target(self.redis_url, default_port=port), self.redis_password
            case "REDIS_HOST" if self.redis_host:
                target, password = RedisTarget(((self.redis_host, self.redis_port),)), self.redis_password
            case _:
                return None
        return replace(
            target,
            form=form,
            password=target.password or _secret(password),
            ca_bundle=self.redis_ca_bundle,
            sentinel_name=self.redis_sentinel_name,
            sentinel_password=_secret(self.redis_sentinel_password),
        )

    @property
    def runs_workers(self) -> bool:
        return self.gateway_role is not Role.API and not self.disable_background_workers

    @property
    def serves_api(self) -> bool:
        return self.gateway_role is not Role.WORKER

    @property
    def queue_names(self) -> tuple[str, ...] | None:
        """Queues named in GATEWAY_QUEUES as they were written; None is all."""
        names = words(self.gateway_queues)
        return None if "*" in names else names

    @property
    def cors_origins(self) -> tuple[str, ...]:
        return words(self.cors_origin or "")

    @property
    def on_loopback(self) -> bool:
        """True if only this machine can reach the HTTP server."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False


def _secret(value: SecretStr | None) -> str | None:
    return None if value is None else value.get_secret_value()
