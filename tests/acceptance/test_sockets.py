"""``/api/ws`` of real processes: the protocol, who may listen, bad input, slow clients, the end of a replica."""

from __future__ import annotations

import json
import socket as sockets
import struct
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from gateway.dev_servers import EmbeddedPostgres
from gateway.infra.migrate import migrate
from gateway.realtime.channel import Channel, Topic
from gateway.settings import Settings
from gateway.web.tokens import mint_token
from tests.support.eventually import eventually
from tests.support.gateway import QUEUE, Cluster, HoldingSmtp, gateways, running
from tests.support.gateway_process import SECRET, bearer, token
from tests.support.modes import WITH_REDIS_ALWAYS, WITHOUT_REDIS, WITHOUT_REDIS_ALWAYS
from tests.support.realtime import SocketClient, replica_of_channels, socket, sound
from tests.support.smtp_server import ScriptedSmtp

WATCHED = f"queue:{QUEUE}"
CHANNEL = Channel(Topic.QUEUE, QUEUE)
Pool = asyncpg.Pool


@pytest.fixture
async def cluster(
    tmp_path: Path, database_url: str, smtp: ScriptedSmtp, mode_redis_url: str | None
) -> AsyncIterator[Cluster]:
    async with gateways(tmp_path, database_url, smtp, redis_url=mode_redis_url, GATEWAY_ROLE="api") as made:
        yield made


def short_token(seconds: float, subject: str = "brief") -> str:
    settings = Settings.model_validate({"database_url": "postgresql://unused/unused", "jwt_secret": SECRET})
    return mint_token(settings, subject, "admin", datetime.now(UTC) + timedelta(seconds=seconds))


async def subscribe(client: SocketClient, channel: str = WATCHED, **fields: Any) -> dict[str, Any]:
    return await client.ask("subscribed", action="subscribe", channel=channel, **fields)


@WITH_REDIS_ALWAYS
async def test_what_any_process_tells_reaches_sockets_of_all_and_goes_on_elsewhere_after_a_kill(
    cluster: Cluster, pool: Pool, mode_redis_url: str | None
) -> None:
    first, second = await cluster.start(), await cluster.start()
    async with replica_of_channels(pool, mode_redis_url, patience_s=5) as (teller, _), socket(second.url) as far:
        begun = (await subscribe(far))["seq"]
        async with socket(first.url) as near:
            assert (await subscribe(near))["seq"] == begun
            for n in range(30):
                teller.publisher.publish((CHANNEL,), "run:step", {"n": n})
            told = await near.count(30)
            first.kill()
            await near.end()
        for n in range(30, 60):
            teller.publisher.publish((CHANNEL,), "run:step", {"n": n})
        async with socket(second.url) as back:
            reached = sound(begun, told)
            assert await subscribe(back, since=reached) == {"type": "subscribed", "channel": WATCHED, "seq": reached}
            rest = await back.count(30)
        assert [message["n"] for message in [*told, *rest]] == [*range(60)]
        assert sound(reached, rest) == begun + 60
        assert [message["n"] for message in await far.count(60)] == [*range(60)], "and who was not cut has them all too"


@WITHOUT_REDIS_ALWAYS
async def test_the_ends_of_jobs_are_told_to_whoever_sent_the_mail(cluster: Cluster, mode: str) -> None:
    api, worker = await cluster.start(), await cluster.start(GATEWAY_ROLE="all")
    async with socket(api.url, "user") as mine, socket(api.url, "viewer") as watching:
        await subscribe(watching)
        mail = await cluster.submit(api, scheduledAt=(datetime.now(UTC) + timedelta(seconds=4)).isoformat())
        job_id = (await cluster.show(mail, worker))["jobId"]
        await subscribe(mine, f"job:{job_id}")
        (told,) = await mine.count(1)
        assert {**told, "seq": 0} == {
            "type": "job:completed",
            "channel": f"job:{job_id}",
            "jobId": job_id,
            "state": "completed",
            "seq": 0,
        }
        (summed,) = await watching.count(1)
        assert (summed["type"], summed["queue"], summed["ended"]) == ("queue:jobs", QUEUE, {"completed": 1})


@WITHOUT_REDIS
async def test_the_first_message_says_who_it_is(cluster: Cluster) -> None:
    gateway = await cluster.start(REALTIME_RECHECK_S="0.2", JWT_LEEWAY_S="0")
    async with socket(gateway.url, None) as client:
        assert await client.next("ready") == {"type": "ready", "authenticateWithinS": 10.0}
        refused = await subscribe(client)
        assert (refused["code"], refused["channel"]) == ("not_authenticated", WATCHED)
        answer = await client.ask("authenticated", action="auth", token=token("viewer"))
        assert answer["userId"] == "viewer-of-the-tests"
        assert datetime.fromisoformat(answer["expiresAt"]) > datetime.now(UTC)
        assert (await subscribe(client))["type"] == "subscribed"
        other = await client.ask("authenticated", action="auth", token=token("user"))
        assert other["code"] == "other_caller"
        assert (await client.end())[0] == 4003
    async with socket(gateway.url, None) as client:
        answer = await client.ask("authenticated", action="auth", token=token("viewer") + "x")
        assert (answer["code"], await client.end()) == ("invalid_token", (4001, "The token's signature is wrong"))
    async with socket(gateway.url, None, additional_headers=bearer(token("viewer"))) as client:
        assert (await client.next("authenticated"))["userId"] == "viewer-of-the-tests"
    async with socket(gateway.url, None) as client:
        await client.ask("authenticated", action="auth", token=short_token(4))
        assert (await client.end())[0] == 4001, "the token has expired"


@WITHOUT_REDIS
async def test_who_says_nothing_is_let_go_after_ten_seconds(cluster: Cluster) -> None:
    gateway = await cluster.start()
    since = time.monotonic()
    async with socket(gateway.url, None) as client:
        code, reason = await client.end()
        assert (code, time.monotonic() - since > 9.5) == (4001, True)
        assert '"action": "auth"' in reason


@WITHOUT_REDIS
async def test_a_token_in_the_address_is_taken_only_where_it_is_allowed_and_never_logged(cluster: Cluster) -> None:
    strict, lenient = (
        await cluster.start(LOG_LEVEL="debug"),
        await cluster.start(LOG_LEVEL="debug", REALTIME_ALLOW_QUERY_TOKEN="true"),
    )
    secret = token("viewer")
    async with socket(lenient.url, None, f"?token={secret}") as client:
        assert (await client.next("authenticated"))["userId"] == "viewer-of-the-tests"
    async with socket(strict.url, None, f"?token={secret}") as client:
        assert (await subscribe(client))["code"] == "not_authenticated"
    assert (await strict.user.get("/api/v1/events", params={"channels": WATCHED, "token": secret})).status_code == 403
    for gateway in (strict, lenient):
        await eventually(lambda gateway=gateway: "socket_closed" in gateway.log)
        assert secret not in gateway.log
        assert secret.rpartition(".")[2] not in gateway.log


@WITHOUT_REDIS
async def test_a_revoked_key_ends_its_connection(cluster: Cluster) -> None:
    gateway = await cluster.start(REALTIME_RECHECK_S="0.2")
    body = {"name": "watcher", "scopes": ["admin:read"]}
    made = (await gateway.admin.post("/api/v1/admin/keys", json=body)).json()["data"]
    async with socket(gateway.url, None) as client:
        await client.ask("authenticated", action="auth", token=made["key"])
        assert (await subscribe(client))["type"] == "subscribed"
        assert (await gateway.admin.delete(f"/api/v1/admin/keys/{made['id']}")).status_code in (200, 204)
        assert (await client.end())[0] == 4001


@WITHOUT_REDIS
async def test_a_token_ends_its_connection_also_while_the_ledger_hangs(cluster: Cluster, pool: Pool) -> None:
    gateway = await cluster.start(REALTIME_RECHECK_S="0.2", JWT_LEEWAY_S="0")
    body = {"name": "watcher", "scopes": ["admin:read"]}
    key = (await gateway.admin.post("/api/v1/admin/keys", json=body)).json()["data"]["key"]
    async with socket(gateway.url, None) as with_key, socket(gateway.url, None) as brief:
        await with_key.ask("authenticated", action="auth", token=key)
        await brief.ask("authenticated", action="auth", token=short_token(5))
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("LOCK TABLE api_keys")  # whoever checks the key waits
            assert await brief.end() == (4001, "the token has expired: connect with a new one")


@WITHOUT_REDIS
@pytest.mark.parametrize("channel", [WATCHED, "queue:none", "project:shop", "conversation:abc", "job:{job}", "job:x"])
async def test_nobody_listens_to_what_is_not_his(cluster: Cluster, channel: str) -> None:
    gateway = await cluster.start()
    job = (await cluster.show(await cluster.submit(gateway)))["jobId"]
    name = channel.replace("{job}", job)
    async with socket(gateway.url, None) as client:
        await client.ask("authenticated", action="auth", token=_user_token("stranger"))
        refused = await subscribe(client, name)
        assert (refused["type"], refused["code"], refused["channel"]) == ("error", "channel_forbidden", name)
        assert (await client.end())[0] == 4003
    answer = await gateway.user.get("/api/v1/events", params={"channels": "queue:email-queue"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "channel_forbidden")


def _user_token(subject: str) -> str:
    settings = Settings.model_validate({"database_url": "postgresql://unused/unused", "jwt_secret": SECRET})
    return mint_token(settings, subject, "user", datetime.now(UTC) + timedelta(hours=1))


@WITHOUT_REDIS
async def test_on_doubt_nobody_listens_and_may_ask_again(
    tmp_path: Path, own_postgres: Callable[[], EmbeddedPostgres], smtp: ScriptedSmtp, mode_redis_url: str | None
) -> None:
    postgres = own_postgres()
    await migrate(postgres.dsn)
    async with gateways(tmp_path, postgres.dsn, smtp, GATEWAY_ROLE="api") as cluster:
        gateway = await cluster.start()
        job = (await cluster.show(await cluster.submit(gateway)))["jobId"]
        async with socket(gateway.url, "user") as client:
            postgres.stop()
            refused = await subscribe(client, f"job:{job}")
            assert refused["code"] == "channel_not_checked"
            postgres.start()

            async def admitted() -> bool:
                return (await subscribe(client, f"job:{job}"))["type"] == "subscribed"

            await eventually(admitted, 30)


BAD = [
    ("this is no JSON", "invalid_json", "JSON"),
    ('"text"', "validation_error", "body"),
    ("[" * 10_000, "validation_error", "body"),
    ('{"action": ' + "[" * 10_000, "validation_error", "action"),
    (b"\xff\xfe", "invalid_json", "JSON"),
    ("{}", "validation_error", "action: is required"),
    ('{"action": "subscrbe"}', "unknown_action", 'did you mean "subscribe"?'),
    ('{"action": 5}', "validation_error", "action"),
    ('{"action": "subscribe"}', "validation_error", "channel: is required, or conversationId"),
    ('{"action": "subscribe", "channel": "a", "conversationId": "b"}', "validation_error", "channel"),
    ('{"action": "subscribe", "channel": "mail:1"}', "validation_error", "conversation:ID, project:ID"),
    ('{"action": "subscribe", "channel": "job:"}', "validation_error", "1 to 128"),
    ('{"action": "subscribe", "channel": "job:a b"}', "validation_error", "1 to 128"),
    ('{"action": "subscribe", "conversationId": "{x}"}', "validation_error", "conversationId"),
    ('{"action": "subscribe", "chanel": "job:1"}', "validation_error", 'did you mean "channel"?'),
    (json.dumps({"action": "subscribe", "channel": WATCHED, "since": -1}), "validation_error", "since"),
    (json.dumps({"action": "subscribe", "channel": WATCHED, "since": 2**53}), "validation_error", "since"),
    (json.dumps({"action": "subscribe", "channel": WATCHED, "since": "now"}), "validation_error", "since"),
    ('{"action": "auth"}', "validation_error", "token: is required"),
    (json.dumps({"action": "ping", "token": "x" * 20_000}), "message_too_large", "16384"),
]


@WITHOUT_REDIS
async def test_bad_messages_are_answered_with_what_to_mend(cluster: Cluster) -> None:
    gateway = await cluster.start()
    async with socket(gateway.url) as client:
        for text, code, said in BAD:
            before = len(client.seen)
            await client.connection.send(text)
            answer = await client.next("error", before)
            assert (answer["type"], answer["code"]) == ("error", code), text
            assert said in answer["message"], answer
        assert await client.ask("pong", action="ping") == {"type": "pong"}
        many = [await subscribe(client, WATCHED) for _ in range(3)]
        assert {one["type"] for one in many} == {"subscribed"}, "twice is once"
        gone = await client.ask("unsubscribed", action="unsubscribe", channel=WATCHED)
        assert gone == {"type": "unsubscribed", "channel": WATCHED}
        await client.connection.send("x" * 2_000_000)
        assert (await client.end())[0] == 1009
    assert await gateway.status("/health/live") == 200
    assert '"level":"error"' not in gateway.log


@WITHOUT_REDIS
async def test_one_caller_has_so_many_connections(cluster: Cluster) -> None:
    gateway = await cluster.start(REALTIME_CONNECTIONS_PER_USER="2")
    async with socket(gateway.url) as first, socket(gateway.url):
        async with socket(gateway.url, None) as third:
            answer = await third.ask("authenticated", action="auth", token=token("admin"))
            assert (answer["code"], (await third.end())[0]) == ("too_many_connections", 1013)
        stream = await gateway.admin.get("/api/v1/events", params={"channels": WATCHED})
        assert (stream.status_code, stream.json()["error"]["code"]) == (429, "too_many_connections")
        assert "retry-after" in stream.headers
        async with socket(gateway.url, "viewer"):
            pass
        await first.close()

        async def admitted() -> bool:
            async with socket(gateway.url, None) as again:
                return (await again.ask("authenticated", action="auth", token=token("admin")))["type"] != "error"

        await eventually(admitted)


@WITHOUT_REDIS
async def test_a_client_that_does_not_read_is_let_go(cluster: Cluster, pool: Pool) -> None:
    gateway = await cluster.start()
    small = sockets.socket()
    small.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
    host, port = gateway.url.removeprefix("http://").split(":")
    small.connect((host, int(port)))
    small.setblocking(False)
    async with replica_of_channels(pool, None) as (teller, _), socket(gateway.url, "viewer") as reader:
        await subscribe(reader)
        async with connect(f"ws://{host}:{port}/api/ws", sock=small, max_queue=1, proxy=None, close_timeout=1) as lazy:
            await lazy.send(json.dumps({"action": "auth", "token": token("admin")}))
            await lazy.send(json.dumps({"action": "subscribe", "channel": WATCHED}))
            while json.loads(await lazy.recv())["type"] != "subscribed":
                pass
            told = 0

            async def slow() -> bool:
                nonlocal told
                for _ in range(100):
                    teller.publisher.publish((CHANNEL,), "run:step", {"n": told, "text": "x" * 7000})
                    told += 1
                return await gateway.metric("gateway_realtime_ended_total", reason="slow") == 1

            await eventually(slow, 40, "it was never found to be slow")
        assert [message["n"] for message in await reader.count(told)] == [*range(told)], "others are not held up"
        await eventually(lambda: _connections(gateway, 1))


async def _connections(gateway: Any, number: int) -> bool:
    return bool(await gateway.metric("gateway_realtime_connections", kind="websocket") == number)


@WITHOUT_REDIS
async def test_a_stopping_replica_sends_its_sockets_elsewhere_at_once(
    tmp_path: Path, database_url: str, mode_redis_url: str | None
) -> None:
    async with running(HoldingSmtp()) as holding, gateways(tmp_path, database_url, holding) as cluster:
        gateway = await cluster.start(SHUTDOWN_GRACE_S="60")
        await cluster.submit(gateway)
        await holding.wait_for(1)
        async with socket(gateway.url) as client, socket(gateway.url, None) as unknown:
            await subscribe(client)
            gateway.terminate()
            assert (await client.end())[0] == 1012
            assert (await unknown.end())[0] == 1012
        assert await gateway.status("/health/live") == 200, "its mail is not finished"
        async with socket(gateway.url, None) as late:
            assert (await late.end())[0] == 1012
        holding.answers.set()
        assert await gateway.exit_code() == 0


@WITHOUT_REDIS
async def test_a_stop_waits_for_no_client_that_does_not_answer(cluster: Cluster) -> None:
    gateway = await cluster.start()
    host, port = gateway.url.removeprefix("http://").split(":")
    with sockets.create_connection((host, int(port))) as mute:
        mute.sendall(
            f"GET /api/ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        assert b"101" in mute.recv(100)
        mute.setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, struct.pack("ii", 1, 0))
        since = time.monotonic()
        gateway.terminate()
        assert await gateway.exit_code(6) == 0
        assert time.monotonic() - since < 5


@WITHOUT_REDIS
async def test_pages_of_other_sites_are_refused(cluster: Cluster) -> None:
    gateway = await cluster.start(CORS_ORIGIN="https://app.example")
    for origin in ("https://evil.example", "null", "https://app.example.evil.example"):
        with pytest.raises(InvalidStatus) as refused:
            async with socket(gateway.url, origin=origin):
                pass
        assert refused.value.response.status_code == 403
    for origin in ("https://app.example", gateway.url):
        async with socket(gateway.url, origin=origin) as client:
            assert (await subscribe(client))["type"] == "subscribed"


@WITHOUT_REDIS
async def test_without_authentication_nobody_has_to_say_who_it_is(cluster: Cluster) -> None:
    gateway = await cluster.start(AUTH_MODE="none", GATEWAY_ENV="development")
    async with socket(gateway.url, None) as client:
        assert (await client.next("authenticated"))["userId"] == "local"
    with pytest.raises(InvalidStatus):
        async with socket(gateway.url, None, origin="https://evil.example"):
            pass
