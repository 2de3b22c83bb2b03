"""What customers and operators do during a run, and what they were told: the audit believes only that.

Every request is repeated until somebody answers it, as a careful client does; those that make mails have an
Idempotency-Key, but for some single sends, after which an unanswered one is left alone.
"""

from __future__ import annotations

import asyncio
import random
import time
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, Final

import httpx

from tests.fault.audit import Told
from tests.fault.chaos_smtp import address
from tests.fault.chaos_world import World
from tests.support.gateway_process import GatewayProcess

_ANSWER_S: Final = 4.0  # then the request is repeated elsewhere
_PAUSE_S: Final = 0.1
_GIVE_UP_S: Final = 60.0  # invariant A's bound holds for callers too
_AGAIN = frozenset({429, 502, 503})
_SIZES = [50, 50, 50, 2_000, 60_000, 400_000]  # characters of text


class Unanswered(Exception):
    pass


class Load:
    def __init__(self, world: World) -> None:
        self.told = Told()
        self._world = world
        self._numbers = count(1)
        self._keys = count(1)
        self.stopped = asyncio.Event()

    async def customer(self, number: int) -> None:
        """Act until ``stopped``; what was begun is ended."""
        rng = random.Random(f"customer {self._world.plan.seed} {number}")
        acts = [self._send] * 6 + [self._batch, self._cancel, self._cancel, self._resend, self._retry]
        while not self.stopped.is_set():
            try:
                await rng.choice(acts)(rng)
            except Unanswered as error:
                self.told.strange.append(f"not answered within {_GIVE_UP_S:g} s: {error}")
            await asyncio.sleep(rng.uniform(0.02, 0.19))

    async def burst(self, mails: int) -> list[str]:
        """One batch of small mails of all priorities, accepted at one moment. Answers their ids in the order given."""
        rng = random.Random(f"burst {self._world.plan.seed}")
        return await self._send_all([self._mail(rng, plain=True) for _ in range(mails)])

    async def operator(self) -> None:
        """Resume a queue that paused itself because the mail server said 421: nobody waits for its minute here."""
        for slot in self._world.slots:
            if slot.ready is not None:
                await _call(slot.ready, "POST", "/api/v1/admin/queues/email/resume", None, {})

    async def _send(self, rng: random.Random) -> None:
        mail = self._mail(rng)
        if rng.random() < 0.25:  # without a key
            process = self._any(rng)
            self.told.unanswered |= {*_recipients(mail)}
            if process is not None and (answer := await _call(process, "POST", _EMAILS, mail, {})) is not None:
                self._note(answer, [mail])
            return
        await self._send_all([mail], single=True)

    async def _batch(self, rng: random.Random) -> None:
        await self._send_all([self._mail(rng, plain=True) for _ in range(rng.randint(2, 12))])

    async def _send_all(self, mails: list[dict[str, Any]], *, single: bool = False) -> list[str]:
        path, body = (_EMAILS, mails[0]) if single else (f"{_EMAILS}/batch", mails)
        return self._note(await self._until_answered("POST", path, body), mails)

    async def _cancel(self, rng: random.Random) -> None:
        """Mostly one of the newest: the older ones have been sent."""
        if self.told.accepted:
            mail = rng.choice(list(self.told.accepted)[-20:])
            self.told.asked.add(mail)
            answer = await self._until_answered("POST", f"{_EMAILS}/{mail}/cancel", None)
            if answer.status_code == 200:
                self.told.cancelled.add(mail)
            else:
                self._expect(answer, 409)

    async def _resend(self, rng: random.Random) -> None:
        if self.told.accepted:
            original = rng.choice(list(self.told.accepted))
            answer = await self._until_answered("POST", f"{_EMAILS}/{original}/resend", None)
            if answer.status_code == 202:
                self.told.accepted[answer.json()["data"]["id"]] = self.told.accepted[original]
            else:
                self._expect(answer, 409)

    async def _retry(self, rng: random.Random) -> None:
        answer = await self._until_answered("POST", "/api/v1/admin/email/queue/retry-failed", None)
        self._expect(answer, 200, 202)

    def _note(self, answer: httpx.Response, mails: list[dict[str, Any]]) -> list[str]:
        if not self._expect(answer, 202, *_AGAIN):
            return []
        if answer.status_code != 202:
            return []
        data = answer.json()["data"]
        ids: list[str] = [each["id"] for each in (data if isinstance(data, list) else [data])]
        for mail_id, mail in zip(ids, mails, strict=True):
            self.told.accepted[mail_id] = _recipients(mail)
        return ids

    def _expect(self, answer: httpx.Response, *statuses: int) -> bool:
        if answer.status_code not in statuses:
            self.told.strange.append(f"{answer.request.url.path}: {answer.status_code} {answer.text[:300]}")
        return answer.status_code in statuses

    async def _until_answered(self, method: str, path: str, body: Any) -> httpx.Response:
        """By anybody, with anything but "later". Raises ``Unanswered``."""
        headers = {"Idempotency-Key": f"key-{next(self._keys)}"}
        end = time.monotonic() + _GIVE_UP_S
        rng = random.Random(headers["Idempotency-Key"])
        while time.monotonic() < end:
            process = self._any(rng)
            answer = await _call(process, method, path, body, headers) if process is not None else None
            if answer is not None and answer.status_code not in _AGAIN and not _still_running(answer):
                return answer
            await asyncio.sleep(_PAUSE_S)
        raise Unanswered(f"{method} {path}")

    def _any(self, rng: random.Random) -> GatewayProcess | None:
        ready = [slot.ready for slot in self._world.slots if slot.ready is not None]
        return rng.choice(ready) if ready else None

    def _mail(self, rng: random.Random, *, plain: bool = False) -> dict[str, Any]:
        """``plain``: small, at once, to one recipient."""
        number = next(self._numbers)
        recipients = [address(number, index) for index in range(1 if plain else rng.choice([1, 1, 1, 2, 3]))]
        mail: dict[str, Any] = {
            "from": "shop@shop.example",
            "to": recipients[:2],
            "subject": f"Mail {number}",
            "text": "x" * (50 if plain else rng.choice(_SIZES)),
            "priority": rng.randint(0, 10),
        }
        if len(recipients) > 2:
            mail[rng.choice(["cc", "bcc"])] = recipients[2:]
        if not plain and rng.random() < 0.25:
            mail["scheduledAt"] = (datetime.now(UTC) + timedelta(seconds=rng.uniform(0.3, 5))).isoformat()
        return mail


_EMAILS: Final = "/api/v1/emails"


def _recipients(mail: dict[str, Any]) -> tuple[str, ...]:
    return (*mail["to"], *mail.get("cc", ()), *mail.get("bcc", ()))


def _still_running(answer: httpx.Response) -> bool:
    return answer.status_code == 409 and answer.json()["error"]["code"] == "concurrent_idempotent_requests"


async def _call(
    process: GatewayProcess, method: str, path: str, body: Any, headers: dict[str, str]
) -> httpx.Response | None:
    """None: nobody answered."""
    try:
        return await process.admin.request(method, path, json=body, headers=headers, timeout=_ANSWER_S)
    except httpx.TransportError:
        return None
