"""PostgreSQL: the pool that everything shares, and what its errors mean."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
import msgspec

CONNECT_TIMEOUT_S: Final = 5.0
COMMAND_TIMEOUT_S: Final = 30.0
_CLOSE_S: Final = 2.0
_VITAL_SIZE: Final = 3
_VITAL_TIMEOUT_S: Final = 5.0

_SERVER_SETTINGS: Final = {
    # Every statement is a short one on few rows: compiling it costs more than running it.
    "jit": "off",
    "timezone": "UTC",
    # A process that hangs inside a transaction must not hold its locks for ever.
    "idle_in_transaction_session_timeout": "30s",
}

# What a call to PostgreSQL may raise. The third is no subclass of the others: asyncpg raises it for a statement on a
# connection whose end (the server said why) it has not seen yet; nothing was sent.
LEDGER_ERRORS: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)

_UNAVAILABLE: Final = (
    OSError,  # refused, reset, and TimeoutError: no answer within the bounds above
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.ReadOnlySQLTransactionError,  # a failover left us connected to the standby
)


async def open_pool(
    url: str,
    *,
    min_size: int = 1,
    max_size: int = 10,
    application_name: str = "gateway",
    command_timeout_s: float = COMMAND_TIMEOUT_S,
) -> asyncpg.Pool[asyncpg.Record]:
    """Connect ``min_size`` connections. Raises what ``is_unavailable`` knows when the server cannot be reached.

    ``json`` and ``jsonb`` values are Python values in and out. Connections carry no session state: callers take
    transaction-level locks only, use no ``SET`` without ``LOCAL``, no ``LISTEN`` and no cursor outside a transaction.
    """
    return await asyncpg.create_pool(
        url,
        min_size=min_size,
        max_size=max_size,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=command_timeout_s,
        max_inactive_connection_lifetime=300,
        server_settings={**_SERVER_SETTINGS, "application_name": application_name},
        init=set_codecs,
        reset=_keep_session,
    )


@dataclass(frozen=True, slots=True)
class Pools:
    """PostgreSQL for the work, and a few connections for what must not wait behind it: leases, leadership, health,
    metrics."""

    work: asyncpg.Pool[asyncpg.Record]
    vital: asyncpg.Pool[asyncpg.Record]


async def open_pools(url: str, work_size: int) -> Pools:
    """Connects to nothing yet."""
    work = await open_pool(url, min_size=0, max_size=work_size)
    vital = await open_pool(
        url, min_size=0, max_size=_VITAL_SIZE, application_name="gateway vital", command_timeout_s=_VITAL_TIMEOUT_S
    )
    return Pools(work, vital)


def storable_text(text: str) -> str:
    """What PostgreSQL cannot keep, NUL and halves of surrogate pairs, is replaced."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")


async def close_pool(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    """Let what is under way end, but not for long: a silent server never answers."""
    try:
        async with asyncio.timeout(_CLOSE_S):
            await pool.close()
    except TimeoutError:
        pool.terminate()


async def connect(
    url: str, *, application_name: str = "gateway", command_timeout_s: float | None = COMMAND_TIMEOUT_S
) -> asyncpg.Connection[asyncpg.Record]:
    """One connection outside the pool, with the pool's settings. ``command_timeout_s=None`` waits without end."""
    connection = await asyncpg.connect(
        url,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=command_timeout_s,
        server_settings={**_SERVER_SETTINGS, "application_name": application_name},
    )
    await set_codecs(connection)
    return connection


async def set_codecs(connection: Any) -> None:
    """Make ``json`` and ``jsonb`` Python values on this connection."""
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=_encode_jsonb, decoder=_decode_jsonb, format="binary"
    )
    await connection.set_type_codec(
        "json", schema="pg_catalog", encoder=msgspec.json.encode, decoder=msgspec.json.decode, format="binary"
    )


def _encode_jsonb(value: Any) -> bytes:
    return b"\x01" + msgspec.json.encode(value)  # 1 is the version of jsonb's binary form (jsonb_recv)


def _decode_jsonb(data: bytes) -> Any:
    return msgspec.json.decode(data[1:])


async def _keep_session(_connection: Any) -> None:
    # asyncpg's own reset costs a round trip at every release, to undo state that no caller sets (see open_pool).
    return None


def is_unavailable(error: BaseException) -> bool:
    """Whether the server is away or refuses connections: the same statement may succeed later, on a new connection."""
    if isinstance(error, _UNAVAILABLE):
        return True
    if isinstance(error, asyncpg.InternalClientError):
        return "another operation" in str(error)
    # asyncpg has one class for misuse and for a closed connection or pool; only the words tell them apart.
    return isinstance(error, asyncpg.InterfaceError) and ("closed" in str(error) or "closing" in str(error))
