"""The rehearsal ends well."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fault.rehearsal import rehearse
from tests.fault.rehearsal_stage import Progress
from tests.support.modes import LONG

pytestmark = pytest.mark.fault


@LONG
@pytest.mark.timeout(300)
async def test_a_rehearsal_of_upgrade_failover_and_memory_refuses_and_loses_nothing(
    tmp_path: Path, empty_database_url: str
) -> None:
    progress = Progress()
    await rehearse(tmp_path, empty_database_url, progress)
    acts = {one.act: one for one in progress.acts}
    assert list(acts) == ["rolling_upgrade", "redis_failover", "everybody_leaves", "memory_restart"]
    assert [one for one in acts.values() if not one.ok] == []
    assert (acts["rolling_upgrade"].replaced, acts["memory_restart"].replaced >= 2) == (3, True)
    assert 0 < acts["redis_failover"].direct_s < 20
