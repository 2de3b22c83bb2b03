"""In which modes a fault test runs. One is enough where the two do not differ: a test costs seconds."""

from __future__ import annotations

import pytest

WITH_REDIS = pytest.mark.parametrize("mode", ["queue"])
WITHOUT_REDIS = pytest.mark.parametrize("mode", ["direct"])
BOTH_MODES = pytest.mark.parametrize("mode", ["queue", "direct"])
