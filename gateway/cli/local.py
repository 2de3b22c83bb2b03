"""Settings for commands that work on the database itself instead of talking to an instance."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.command import Invocation
from gateway.cli.errors import CliError, Exit
from gateway.cli.instance import running_dev
from gateway.cli.output import say

if TYPE_CHECKING:
    from gateway.settings import Loaded

ENV_FILE = Path(".env")
JWT_SECRET_FILE = "jwt-secret"


def load_settings(environ: Mapping[str, str], *, serving: bool, database: bool = True) -> Loaded:
    """The effective settings; unknown names are mentioned on stderr. See ``settings.load`` for what is demanded.

    Raises CliError (wrong usage) with every problem: nothing can be done until they are put right.
    """
    from gateway.settings import SettingsError, load

    try:
        loaded = load(environ, env_file=ENV_FILE, serving=serving, database=database)
    except SettingsError as error:
        cannot = "Cannot start" if serving else f"Cannot run {click.get_current_context().command_path}"
        raise CliError(error.told(cannot), Exit.USAGE, "invalid_settings") from error
    for warning in loaded.warnings:
        say(f"warning: {warning}")
    return loaded


def environment(call: Invocation) -> dict[str, str]:
    """The environment, completed by a running ``gateway dev`` where it says nothing of its own.

    The signing secret of ``gateway dev`` goes with its database only: beside another DATABASE_URL it is left out.
    """
    found = dict(os.environ)
    if any(found.get(name) for name in ("DATABASE_URL", "DATABASE_URL_FILE")):
        return found
    dev = running_dev(call.data_dir)
    if dev is None:
        return found
    found["DATABASE_URL"] = dev.database_url
    if not found.get("SMTP_HOST"):
        found |= {"SMTP_HOST": dev.smtp.host, "SMTP_PORT": str(dev.smtp.port)}
    if dev.redis_url and not found.get("REDIS_URL"):
        found["REDIS_URL"] = dev.redis_url
    if not any(found.get(name) for name in ("JWT_SECRET", "JWT_SECRET_FILE", "JWT_JWKS_URL")):
        found["JWT_SECRET_FILE"] = str(call.data_dir / JWT_SECRET_FILE)
    return found
