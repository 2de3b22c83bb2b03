"""Settings of machines that call: cron jobs, and senders of webhooks."""

from __future__ import annotations

from pydantic import BaseModel, Field, SecretStr


class MachineSettings(BaseModel):
    """A part of ``Settings``, which inherits it."""

    cron_secret: SecretStr | None = Field(
        None, description="Bearer token of the machine routes (/api/v1/workers), 32 bytes or more; unset: they are off."
    )
    trigger_secret_key: SecretStr | None = Field(
        None,
        description="Key from which the secrets of webhook triggers are derived, 32 bytes or more; unset: JWT_SECRET. "
        "With another key all of them have to be rotated.",
    )
