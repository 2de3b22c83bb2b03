"""What waits for something ends when it is cancelled, on each version of Python."""

from __future__ import annotations

import asyncio

import pytest

from gateway.infra.wait_for import wait_for


async def _ends_at_once() -> str:
    return "ended"


@pytest.mark.parametrize("turns", range(6))
async def test_a_cancellation_is_not_lost_however_far_the_wait_is(turns: int) -> None:
    async def waits() -> None:
        await asyncio.wait_for(_ends_at_once(), 30)  # the standard name: it is what libraries call
        await asyncio.Event().wait()

    task = asyncio.create_task(waits())
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task], timeout=5)
    assert task.cancelled()


async def test_the_time_out_ends_what_is_awaited() -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    with pytest.raises(TimeoutError):
        await wait_for(future, 0.01)
    assert future.cancelled()


async def test_a_result_and_an_error_are_those_of_what_is_awaited() -> None:
    async def fails() -> None:
        raise LookupError("not there")

    assert await wait_for(_ends_at_once(), None) == "ended"
    with pytest.raises(LookupError):
        await wait_for(fails(), 30)


@pytest.mark.parametrize("timeout", [0, -1])
async def test_without_time_nothing_begins_and_what_is_done_is_taken(timeout: float) -> None:
    begun = []

    async def begins() -> None:
        begun.append(True)

    with pytest.raises(TimeoutError):
        await wait_for(begins(), timeout)
    assert begun == []
    done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    done.set_result("here")
    assert await wait_for(done, timeout) == "here"
