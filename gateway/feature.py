"""What a feature is, and what it is given."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import asyncpg
from litestar import Router
from litestar.di import NamedDependency
from litestar.params import SkipValidation

from gateway.access import Principal
from gateway.infra.lifecycle import Component
from gateway.jobs.engine import Engine
from gateway.jobs.inspector import Inspector
from gateway.jobs.maintenance import Chores
from gateway.jobs.policy import QueuePolicy
from gateway.jobs.registry import Task
from gateway.jobs.schedule import NewSchedule
from gateway.jobs.schedules import Schedules
from gateway.llm.model import Models
from gateway.pages import FeaturePages
from gateway.realtime.channel import Publisher, Topic
from gateway.realtime.hub import Hub
from gateway.settings import Settings


@dataclass(frozen=True, slots=True)
class Platform:
    """What ``runtime`` hands to each feature's ``feature(platform)``."""

    settings: Settings
    pool: asyncpg.Pool[asyncpg.Record]
    engine: Engine
    inspector: Inspector
    schedules: Schedules
    models: Models
    publisher: Publisher
    hub: Hub


# How a route asks for it: the app provides it under the name "platform".
ThePlatform = NamedDependency[SkipValidation[Platform]]


class OwnRouter(Router):
    """Routes that are made for one application. Litestar copies the routers that it is given, with all that is below
    them, in case they are registered twice: a third of the time that an application takes to make."""

    def __deepcopy__(self, _memo: dict[int, Any]) -> Self:
        return self


# May this caller listen to the channel with this id? Several features may own ids of one topic: any True admits; who
# raises has not admitted.
ChannelGuard = Callable[[Principal, str], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Feature:
    """One folder of ``services/``. ``components`` start before the workers (in order) and stop after them (reversed);
    ``chores`` run on the elected leader; the jobs of ``schedules`` run like any other (docs/schedules.md).

    ``channels``: who may listen to the channels of a topic that are this feature's. ``tells_job_ends``: it publishes
    nothing itself, so the engine tells on its jobs' channels how they ended. ``pages``: what the dashboard shows of it.
    """

    name: str
    queues: tuple[QueuePolicy, ...]
    tasks: tuple[Task[Any], ...]
    routes: tuple[Any, ...]
    components: tuple[Component, ...] = ()
    chores: Chores = ()
    schedules: tuple[NewSchedule, ...] = ()
    channels: Mapping[Topic, ChannelGuard] = field(default_factory=dict)
    tells_job_ends: bool = False
    pages: FeaturePages | None = None
