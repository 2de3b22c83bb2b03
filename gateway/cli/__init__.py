"""The command ``gateway``: parse, call, print.

Nothing in this package imports the application at module level: ``--help`` and ``--version`` answer even when the
application cannot be imported.
"""

from __future__ import annotations

from gateway.cli.root import main

__all__ = ["main"]
