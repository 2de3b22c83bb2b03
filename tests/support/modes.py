"""In which modes a test of whole processes runs. One is enough where the two do not differ: each costs seconds."""

from __future__ import annotations

import pytest

WITH_REDIS = pytest.mark.parametrize("mode", ["queue"])
WITHOUT_REDIS = pytest.mark.parametrize("mode", ["direct"])
BOTH_MODES = pytest.mark.parametrize("mode", ["queue", "direct"])

LONG = pytest.mark.fault(long=True)
"""For `make fault` (`-m fault`) only: see tests/conftest.py."""

WITH_REDIS_ALWAYS = pytest.mark.parametrize("mode", ["queue", pytest.param("direct", marks=LONG)])
"""Both modes; the other one for `make fault` only."""
WITHOUT_REDIS_ALWAYS = pytest.mark.parametrize("mode", ["direct", pytest.param("queue", marks=LONG)])
