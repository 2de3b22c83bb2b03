"""An SMTP server as one word, for where nobody wants six settings. Pure."""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote, urlsplit

from gateway.services.email.smtp_settings import SmtpSettings

FORM: Final = "smtp://user:password@host:587 or smtps://host:465"
_PORTS: Final = {"smtp": 587, "smtps": 465}


def smtp_at(url: str) -> SmtpSettings:
    """``smtps``: TLS from the first byte; ``smtp``: STARTTLS where it is offered, and a login only with it. Raises
    ValueError, without the password in its words."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(f"is not the address of an SMTP server; it looks like {FORM}") from None
    if parts.scheme not in _PORTS or not parts.hostname or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(f"is not the address of an SMTP server; it looks like {FORM}")
    if (parts.username is None) != (parts.password is None):
        raise ValueError("has a user without a password, or a password without a user")
    return SmtpSettings(
        host=parts.hostname,
        port=port or _PORTS[parts.scheme],
        user=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        tls="tls" if parts.scheme == "smtps" else "auto",
        connect_timeout_s=10.0,
        command_timeout_s=20.0,
        data_timeout_s=60.0,
    )
