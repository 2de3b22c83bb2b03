"""A real SMTP server for tests that does what it is told: answer this, hang there, cut the line after that.

    server = ScriptedSmtp()
    await server.start()
    server.script.rcpt["a@x.example"] = [(451, "try later"), OK]   # the first RCPT for it, the second; then OK for ever
    server.script.end_of_data = [ACCEPT_AND_CUT]
    server.script.rule = lambda phase, subject, seen: (421, "busy") if seen == 0 else None

``subject`` is the recipient at ``rcpt``, the sender at ``mail``, the first accepted recipient at ``data`` and
``end_of_data``.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

import trustme


class Act(Enum):
    OK = "ok"  # the usual answer
    HANG = "hang"  # none, until the server stops
    CUT = "cut"  # close instead of answering; at end_of_data the message is forgotten
    ACCEPT_AND_CUT = "accept_and_cut"  # at end_of_data: keep the message, close without an answer
    CUT_IN_BODY = "cut_in_body"  # at data: answer 354, then close when the message begins to come


OK, HANG, CUT, ACCEPT_AND_CUT, CUT_IN_BODY = Act.OK, Act.HANG, Act.CUT, Act.ACCEPT_AND_CUT, Act.CUT_IN_BODY

Answer = Act | tuple[int, str]
Answers = list[Answer] | Answer
"""A list is used up from the left; anything else is given each time."""


@dataclass
class Script:
    """What to answer, by phase. ``rule`` is asked first, with how often it saw this phase and subject before."""

    greeting: Answers = field(default_factory=list)
    ehlo: Answers = field(default_factory=list)
    starttls: Answers = field(default_factory=list)
    auth: Answers = field(default_factory=list)
    mail: Answers = field(default_factory=list)
    rcpt: dict[str, Answers] = field(default_factory=dict)
    data: Answers = field(default_factory=list)
    end_of_data: Answers = field(default_factory=list)
    rset: Answers = field(default_factory=list)
    rule: Callable[[str, str, int], Answer | None] | None = None
    delay_s: float = 0.0  # before each answer to the final dot
    seen: Counter[tuple[str, str]] = field(default_factory=Counter)

    def next(self, phase: str, subject: str = "") -> Answer:
        seen = self.seen[phase, subject]
        self.seen[phase, subject] += 1
        ruled = self.rule(phase, subject, seen) if self.rule else None
        if ruled is not None:
            return ruled
        answers: Answers = self.rcpt.get(subject, OK) if phase == "rcpt" else getattr(self, phase)
        if isinstance(answers, list):
            return answers.pop(0) if answers else OK
        return answers


class Received(NamedTuple):
    """One accepted message. ``data`` is without the doubled dots; ``at`` is ``time.monotonic()``."""

    envelope_from: str
    recipients: list[str]
    data: bytes
    at: float
    connection: int  # 1, 2, ... in order of arrival
    tls: bool
    user: str | None


class Certificate:
    """A server certificate for localhost and the authority that a client has to trust (``ca_pem``)."""

    def __init__(self) -> None:
        authority = trustme.CA()
        self.ca_pem = authority.cert_pem.bytes()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost", "127.0.0.1").configure_cert(self.context)


class ScriptedSmtp:
    """Runs in the test's own loop. ``messages``, ``commands`` and ``connections`` are what it saw."""

    def __init__(
        self,
        *,
        tls: str = "none",
        certificate: Certificate | None = None,
        users: dict[str, str] | None = None,
        mechanisms: str = "PLAIN LOGIN",
        size_limit: int | None = None,
        pipelining: bool = True,
    ) -> None:
        self.tls = tls  # "none", "starttls", "tls"
        self.certificate = certificate
        self.users = users
        self.mechanisms = mechanisms
        self.size_limit = size_limit
        self.pipelining = pipelining
        self.script = Script()
        self.messages: list[Received] = []
        self.commands: list[tuple[int, str]] = []
        self.connections = 0
        self.host = "127.0.0.1"
        self.port = 0
        self.hanging = asyncio.Event()  # some connection reached a HANG
        self._changed = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self._tasks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def start(self, port: int | None = None) -> None:
        """Listens on ``port``, on the one it had before a stop, or on a free one."""
        context = self.certificate.context if self.certificate and self.tls == "tls" else None
        self._server = await asyncio.start_server(
            self._serve, self.host, self.port if port is None else port, limit=64 * 1024 * 1024, ssl=context
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stops listening and cuts every connection."""
        if self._server is not None:
            self._server.close()
            self._server = None
        await self.drop_connections()

    async def drop_connections(self) -> None:
        """Cuts what is open now and goes on listening, as a server does with idle clients."""
        tasks = list(self._tasks)
        for task in tasks:
            self._tasks[task].close()
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def wait_for(self, count: int, timeout: float = 10.0) -> list[Received]:
        """The first ``count`` messages, as soon as they are there. Raises TimeoutError."""
        async with asyncio.timeout(timeout), self._changed:
            await self._changed.wait_for(lambda: len(self.messages) >= count)
        return self.messages[:count]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks[task] = writer
        self.connections += 1
        try:
            await _Session(self, self.connections, reader, writer).run()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError, _Cut):
            pass  # cancelled by drop_connections: asyncio's streams would log a cancelled handler as an error
        finally:
            writer.close()
            del self._tasks[task]

    async def keep(self, message: Received) -> None:
        async with self._changed:
            self.messages.append(message)
            self._changed.notify_all()


class _Cut(Exception):
    pass


class _Session:
    def __init__(
        self, server: ScriptedSmtp, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.server, self.number, self.reader, self.writer = server, number, reader, writer
        self.secure = server.tls == "tls"
        self.user: str | None = None
        self.sender: str | None = None
        self.recipients: list[str] = []

    async def run(self) -> None:
        await self.answer("greeting", "", 220, "test server ready")
        while True:
            line = (await self.reader.readline()).decode()
            if not line:
                return
            line = line.rstrip("\r\n")
            self.server.commands.append((self.number, line))
            verb, _, rest = line.partition(" ")
            handler = getattr(self, f"on_{verb.lower()}", None)
            if handler is None:
                await self.say(502, "5.5.1 command not implemented")
            else:
                await handler(rest)

    async def say(self, code: int, text: str) -> None:
        *head, last = text.split("\n")
        self.writer.write(("".join(f"{code}-{each}\r\n" for each in head) + f"{code} {last}\r\n").encode())
        await self.writer.drain()

    async def answer(self, phase: str, subject: str, code: int, text: str) -> bool:
        """Follow the script; True if the answer was the usual one."""
        act = self.server.script.next(phase, subject)
        if isinstance(act, tuple):
            await self.say(*act)
            if act[0] == 421:
                raise _Cut
            return 200 <= act[0] < 400
        if act is HANG:
            self.server.hanging.set()
            await asyncio.Event().wait()
        if act is CUT or act is ACCEPT_AND_CUT:
            raise _Cut
        await self.say(code, text)
        if act is CUT_IN_BODY:
            await self.reader.read(1)
            raise _Cut
        return True

    async def on_ehlo(self, _: str) -> None:
        self.sender = None
        lines = ["localhost", "8BITMIME", "ENHANCEDSTATUSCODES"]
        if self.server.pipelining:
            lines.append("PIPELINING")
        if self.server.tls == "starttls" and not self.secure:
            lines.append("STARTTLS")
        if self.server.users is not None and (self.secure or self.server.tls == "none"):
            lines.append(f"AUTH {self.server.mechanisms}")
        if self.server.size_limit:
            lines.append(f"SIZE {self.server.size_limit}")
        await self.answer("ehlo", "", 250, "\n".join(lines))

    async def on_helo(self, _: str) -> None:
        await self.say(250, "localhost")

    async def on_starttls(self, _: str) -> None:
        assert self.server.certificate is not None
        if await self.answer("starttls", "", 220, "go ahead"):
            await self.writer.start_tls(self.server.certificate.context)
            self.secure = True

    async def on_auth(self, rest: str) -> None:
        mechanism, _, initial = rest.partition(" ")
        if mechanism == "PLAIN":
            _, user, password = base64.b64decode(initial).decode().split("\0")
        else:
            user = base64.b64decode(initial).decode()
            await self.say(334, "UGFzc3dvcmQ6")
            password = base64.b64decode(await self.reader.readline()).decode()
        if (self.server.users or {}).get(user) != password:
            await self.say(535, "5.7.8 authentication credentials invalid")
        elif await self.answer("auth", user, 235, "2.7.0 welcome"):
            self.user = user

    async def on_mail(self, rest: str) -> None:
        address = rest.partition("<")[2].partition(">")[0]
        if self.server.users is not None and self.user is None:
            await self.say(530, "5.7.0 authentication required")
        elif self.sender is not None:
            await self.say(503, "5.5.1 nested MAIL command")
        elif await self.answer("mail", address, 250, "2.1.0 ok"):
            self.sender, self.recipients = address, []

    async def on_rcpt(self, rest: str) -> None:
        address = rest.partition("<")[2].partition(">")[0]
        if self.sender is None:
            await self.say(503, "5.5.1 MAIL first")
        elif await self.answer("rcpt", address, 250, "2.1.5 ok"):
            self.recipients.append(address)

    async def on_data(self, _: str) -> None:
        if self.sender is None or not self.recipients:
            await self.say(503, "5.5.1 RCPT first")
        elif await self.answer("data", self.recipients[0], 354, "end with a dot"):
            await self.receive(self.sender)

    async def receive(self, sender: str) -> None:
        raw = await self.reader.readuntil(b"\r\n.\r\n")
        data = raw[:-3].replace(b"\r\n..", b"\r\n.")
        message = Received(
            sender,
            self.recipients,
            data[1:] if data.startswith(b"..") else data,
            time.monotonic(),
            self.number,
            self.secure,
            self.user,
        )
        self.sender = None
        script = self.server.script
        if script.delay_s:
            await asyncio.sleep(script.delay_s)
        act = script.next("end_of_data", message.recipients[0])
        if act is OK or act is ACCEPT_AND_CUT or (isinstance(act, tuple) and act[0] < 400):
            await self.server.keep(message)
        if act is HANG:
            self.server.hanging.set()
            await asyncio.Event().wait()
        if act is CUT or act is ACCEPT_AND_CUT:
            raise _Cut
        await self.say(*(act if isinstance(act, tuple) else (250, f"2.0.0 queued as {len(self.server.messages)}")))
        if isinstance(act, tuple) and act[0] == 421:
            raise _Cut

    async def on_rset(self, _: str) -> None:
        self.sender = None
        await self.answer("rset", "", 250, "2.0.0 ok")

    async def on_noop(self, _: str) -> None:
        await self.say(250, "2.0.0 ok")

    async def on_quit(self, _: str) -> None:
        await self.say(221, "2.0.0 bye")
        raise _Cut
