"""The settings that all replicas of one installation should have alike, for each replica to announce."""

from __future__ import annotations

from typing import Final

from pydantic import SecretStr

from gateway.settings.model import Settings
from gateway.settings.show import shown

# Each process, or each host, may have its own.
_OWN: Final = frozenset(
    {
        "port",
        "host",
        "gateway_role",
        "gateway_queues",
        "disable_background_workers",
        "shutdown_grace_s",
        "log_level",
        "log_format",
        "trusted_proxies",
        "cors_origin",
        "database_url",
        "database_pool_size",
        "redis_required",
        "otel_exporter_otlp_endpoint",  # often the collector of its own host
        "agents_dir",
    }
)
_OWN_ENDINGS: Final = ("_queue_concurrency", "_ca_bundle", "_pool_size")
_REDIS: Final = ("redis_", "use_job_queue")  # told as the one server that they come to


def shared_settings(settings: Settings) -> dict[str, str]:
    """Values as text, by variable. Neither secrets nor what is unset; nothing of SMTP where this process sends no mail.

    All that are not named here as a process's own: a setting that is added later is compared too.
    """
    found = {"REDIS": str(settings.queue_redis or "none")}
    for field in Settings.model_fields:
        value = getattr(settings, field)
        if value is None or isinstance(value, SecretStr) or field in _OWN or field.endswith(_OWN_ENDINGS):
            continue
        if field.startswith(_REDIS) or (field.startswith("smtp_") and settings.smtp_host is None):
            continue
        found[field.upper()] = shown(value) or ""
    return found
