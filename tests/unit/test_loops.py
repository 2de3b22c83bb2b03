"""Background loops end when they are stopped."""

from __future__ import annotations

import asyncio

from gateway.infra.loops import Loop
from tests.support.eventually import eventually


async def test_a_loop_whose_step_makes_nothing_of_being_cancelled_ends_with_that_step() -> None:
    steps = 0
    under_way, may_end = asyncio.Event(), asyncio.Event()

    async def step() -> float:
        nonlocal steps
        steps += 1
        under_way.set()
        try:
            await may_end.wait()
        except asyncio.CancelledError:
            await may_end.wait()
        return 0.0

    loop = Loop("stubborn", step)
    await loop.start()
    await under_way.wait()
    stopping = asyncio.create_task(loop.stop())
    await asyncio.sleep(0)
    may_end.set()
    await stopping
    assert steps == 1
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "stubborn"]


async def test_a_loop_that_is_started_again_goes_on_alone() -> None:
    steps: list[asyncio.Task[None] | None] = []

    async def step() -> float:
        steps.append(asyncio.current_task())
        return 0.001

    loop = Loop("again", step)
    await loop.start()
    await eventually(lambda: len(steps) > 2)
    await loop.stop()
    first = set(steps)
    steps.clear()
    await loop.start()
    await eventually(lambda: len(steps) > 2)
    await loop.stop()
    assert len(first) == len(set(steps)) == 1
    assert not first & set(steps)
