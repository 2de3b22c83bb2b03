"""A short run of the chaos driver: its servers, faults, load and audit work together, and every promise is kept.

``make fault`` makes longer ones, with a new seed each time.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fault.chaos import run
from tests.fault.chaos_plan import draw

pytestmark = pytest.mark.fault


async def test_a_short_plan_of_random_faults_breaks_no_promise(server_directory: Path) -> None:
    directory = server_directory / "chaos"
    directory.mkdir(mode=0o755)
    line = await run(draw(35, seconds=5, faults=5, burst=20), directory)
    assert line.ok, line
    assert line.accepted > 50
