"""Settings of how long things are kept that have ended; jobs have theirs beside their queues."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

_Days = Annotated[int, Field(ge=0, le=36_500)]


class RetentionSettings(BaseModel):
    """A part of ``Settings``, which inherits it."""

    email_content_retention_days: _Days = Field(
        30, description="Days after which bodies and files of mails that have ended are removed; 0 keeps them."
    )
    email_retention_days: _Days = Field(
        180,
        description="Days after which mails that have ended are deleted, with their events and attempts; 0 keeps them.",
    )
    run_retention_days: _Days = Field(
        180,
        description="Days after which runs of agents that have ended are deleted; what they cost stays in the usage. "
        "At least 32, so that budgets see the whole month; 0 keeps them.",
    )
    conversation_retention_days: _Days = Field(
        0, description="Days after the last question after which conversations are deleted; 0 keeps them."
    )
    audit_retention_days: _Days = Field(
        365, description="Days for which the trail of what administrators changed is kept; 0 keeps it for good."
    )
