"""What the SMTP transport is told."""

from __future__ import annotations

from typing import Literal

import msgspec

TlsMode = Literal["none", "auto", "starttls", "tls"]


class SmtpSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach the server and how long to keep a connection.

    ``tls``: ``tls`` from the first byte (port 465); ``starttls`` required; ``auto`` STARTTLS if offered, and a login
    only over TLS or to this machine; ``none`` never. Certificates are always verified, by ``ca_file`` (PEM) if set.
    Timeouts in seconds; the defaults are shorter than RFC 5321's (4.5.3.2) except for the answer to the message itself,
    where giving up early makes duplicates.
    """

    host: str
    port: int
    user: str | None = None
    password: str | None = None
    tls: TlsMode = "auto"
    ca_file: str | None = None
    connect_timeout_s: float = 15.0
    command_timeout_s: float = 60.0
    data_timeout_s: float = 600.0
    max_connections: int = 5
    max_mails_per_connection: int = 100
    max_age_s: float = 300.0
    idle_s: float = 30.0
    check_idle_s: float = 5.0  # after this long a connection is asked (RSET) before it carries a mail
    max_waiters: int = 1000
    local_hostname: str | None = None
