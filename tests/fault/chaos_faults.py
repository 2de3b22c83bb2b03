"""The faults by name: each makes itself, lasts as long as the plan says, and is over when its function returns.

Not made: a wall clock that is moved. The processes of one machine share it; the gateway's own times are the ledger's
and monotonic ones, and ``test_D_a_clock_that_was_set_back_does_not_stop_a_queue`` shows one case. An event loop that is
blocked is made as ``block``: SIGSTOP for less than a lease.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Final

import redis.asyncio as aioredis

from tests.fault.chaos_plan import EVERYWHERE, Fault
from tests.fault.chaos_world import Slot, World
from tests.support.eventually import eventually
from tests.support.gateway_process import GatewayProcess
from tests.support.proxy import Proxy


async def make(world: World, fault: Fault) -> None:
    """Make it when its time has come and what it strikes is not being struck already."""
    name = fault.name
    link, is_link, kind = name.partition("_link_")
    async with AsyncExitStack() as locks:
        for what in _struck(world, fault):
            await locks.enter_async_context(world.lock(what))
        world.say(str(fault))
        if is_link:
            slots = world.slots if fault.slot == EVERYWHERE else [world.slots[fault.slot]]
            await _break_links([slot.links[link] for slot in slots], kind, fault)
        elif name.startswith("smtp_"):
            await _smtp(world, fault)
        else:
            await _FAULTS[name](world, fault)
        world.say(f"over: {name}")
    world.quiet_since = time.monotonic()


def _struck(world: World, fault: Fault) -> list[str]:
    """What nothing else may strike meanwhile, in an order in which two faults cannot wait for each other."""
    link, is_link, _ = fault.name.partition("_link_")
    if is_link:
        numbers = range(len(world.slots)) if fault.slot == EVERYWHERE else [fault.slot]
        return [f"{link} of {number}" for number in numbers]
    if fault.name in {"kill", "terminate", "freeze", "block"}:
        return [f"gateway {fault.slot}"]
    return [fault.name.partition("_")[0]]


async def _pass(seconds: float) -> None:
    end = time.monotonic() + seconds
    await eventually(lambda: time.monotonic() >= end, seconds + 30)


async def _break_links(links: list[Proxy], kind: str, fault: Fault) -> None:
    for link in links:
        await _BREAKS[kind](link)
    await _pass(fault.lasts_s)
    for link in links:
        link.delay_s = 0.0
        if fault.harsh:
            link.cut()
        await link.up()


async def _cut(link: Proxy) -> None:
    link.cut()


async def _stall(link: Proxy) -> None:
    link.stall()


async def _half_open(link: Proxy) -> None:
    link.half_open()


async def _delay(link: Proxy) -> None:
    link.delay_s = 0.1


_BREAKS: Final[dict[str, Callable[[Proxy], Awaitable[None]]]] = {
    "cut": _cut,
    "down": Proxy.down,
    "stall": _stall,
    "half_open": _half_open,
    "delay": _delay,
}


async def _smtp(world: World, fault: Fault) -> None:
    world.smtp.faults.add(fault.name)
    await _pass(fault.lasts_s)
    world.smtp.faults.discard(fault.name)
    if fault.name == "smtp_hang":  # who hangs would do so for ever
        await world.smtp.drop_connections()


async def _kill(world: World, fault: Fault) -> None:
    slot = world.slots[fault.slot]
    _process(slot).kill()
    await _pass(fault.lasts_s)
    world.spawn(slot)


async def _terminate(world: World, fault: Fault) -> None:
    """As a rolling deploy does: the next one starts while the last one drains."""
    slot = world.slots[fault.slot]
    process = _process(slot)
    process.terminate()
    await _pass(fault.lasts_s)
    world.spawn(slot)
    await world.ended(process)


async def _freeze(world: World, fault: Fault) -> None:
    process = _process(world.slots[fault.slot])
    process.freeze()
    await _pass(fault.lasts_s)
    process.thaw()


async def _flush(world: World, fault: Fault) -> None:
    if world.valkey.pid is None:
        return
    client = aioredis.Redis.from_url(world.valkey.url)
    await client.flushall()
    await client.aclose()


async def _valkey_restart(world: World, fault: Fault) -> None:
    await asyncio.to_thread(world.valkey.stop)
    await _valkey_again(world, fault)


async def _valkey_kill(world: World, fault: Fault) -> None:
    await asyncio.to_thread(world.valkey.kill)
    await _valkey_again(world, fault)


async def _valkey_again(world: World, fault: Fault) -> None:
    """With its append-only file, which may be an old one, or empty."""
    await _pass(fault.lasts_s)
    world.valkey.start(appendonly=not fault.harsh)


async def _valkey_freeze(world: World, fault: Fault) -> None:
    world.valkey.pause()
    await _pass(fault.lasts_s)
    world.valkey.resume()


async def _postgres_restart(world: World, fault: Fault) -> None:
    await asyncio.to_thread(world.postgres.stop)
    await _pass(fault.lasts_s)
    world.postgres.start()


async def _postgres_kill(world: World, fault: Fault) -> None:
    await asyncio.to_thread(world.postgres.kill)
    await _pass(fault.lasts_s)
    world.postgres.start()


_FAULTS: Final[dict[str, Callable[[World, Fault], Awaitable[None]]]] = {
    "kill": _kill,
    "terminate": _terminate,
    "freeze": _freeze,
    "block": _freeze,
    "valkey_flush": _flush,
    "valkey_restart": _valkey_restart,
    "valkey_kill": _valkey_kill,
    "valkey_freeze": _valkey_freeze,
    "postgres_restart": _postgres_restart,
    "postgres_kill": _postgres_kill,
}


def _process(slot: Slot) -> GatewayProcess:
    if slot.process is None:
        raise RuntimeError(f"gateway {slot.number} was never started")
    return slot.process


async def all_faults(world: World) -> None:
    """The whole plan, from now on. Returns when the last fault is over."""
    started = time.monotonic()

    async def in_time(fault: Fault) -> None:
        await _pass(max(0.0, started + fault.at_s - time.monotonic()))
        await make(world, fault)

    async with asyncio.TaskGroup() as group:
        for fault in world.plan.faults:
            group.create_task(in_time(fault))
