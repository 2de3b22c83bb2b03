"""``python -m gateway`` is the command ``gateway``."""

from __future__ import annotations

import sys

from gateway.cli import main

sys.exit(main())
