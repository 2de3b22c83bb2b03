"""Adapters to the outside, with no business words."""

import asyncio
import sys

from gateway.infra.wait_for import wait_for

if sys.version_info < (3, 12):  # for the libraries that the adapters use: see there
    asyncio.wait_for = asyncio.tasks.wait_for = wait_for  # type: ignore[assignment]
