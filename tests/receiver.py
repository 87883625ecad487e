"""Real servers on loopback whose answers are scripted: an HTTP endpoint and a mail server.

with HttpReceiver() as receiver:
    receiver.script(503, Answer(429, headers={"Retry-After": "7"}))   # then 200 for ever
    ...
    assert [request.headers["webhook-id"] for request in receiver.requests] == ["a", "a", "a"]
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any, Self

from aiohttp import web
from aiosmtpd.smtp import SMTP, Envelope, LoginPassword, Session
from multidict import CIMultiDictProxy

BACKLOG = 512
WAIT = 20.0


@dataclass(frozen=True)
class Answer:
    """What the HTTP endpoint says.

    drop  close the connection instead, after the request was read
    held  not before `let_go`
    """

    status: int = 200
    body: bytes | str = b"ok"
    headers: Mapping[str, str] = field(default_factory=dict)
    drop: bool = False
    held: bool = False


DROP = Answer(drop=True)
HELD = Answer(held=True)


@dataclass(frozen=True)
class Request:
    """What the HTTP endpoint was told."""

    method: str
    path: str
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def id(self) -> str:
        """The notification's, as the webhook channel sends it."""
        return self.headers["webhook-id"]


class Background:
    """A server on an event loop in a thread of its own, at a port that the system chose."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        self.port: int = self._socket.getsockname()[1]
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=type(self).__name__, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._open())
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WAIT)
        self._loop.close()
        self._socket.close()

    def _call(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(WAIT)

    async def _open(self) -> None:
        raise NotImplementedError

    async def _close(self) -> None:
        raise NotImplementedError


class HttpReceiver(Background):
    """Answers every request as `answer` says: a function of the request that a test may replace."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__()
        self.requests: list[Request] = []
        self.answer: Callable[[Request], Answer] = lambda request: Answer()
        self._tls = tls
        self._gate = asyncio.Event()

    def url(self, path: str = "/hook", host: str = "127.0.0.1") -> str:
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}{path}"

    @property
    def ids(self) -> list[str]:
        return [request.id for request in self.requests]

    def script(self, *answers: int | Answer, then: int | Answer = 200) -> None:
        """Answer the next requests so, one each in the order of their arrival; `then` all others."""
        rest = deque(answers)
        self.answer = lambda request: as_answer(rest.popleft() if rest else then)

    def always(self, answer: int | Answer) -> None:
        self.script(then=answer)

    def by_id(self, answers: Mapping[str, int | Answer]) -> None:
        """Answer by the notification's id; 200 for all others."""
        self.answer = lambda request: as_answer(answers.get(request.id, 200))

    def let_go(self) -> None:
        """Answer what is held, and hold nothing from now on."""
        self._loop.call_soon_threadsafe(self._gate.set)

    def wait_for(self, count: int) -> None:
        """Return when `count` requests have arrived."""
        with self._changed:
            arrived = self._changed.wait_for(lambda: len(self.requests) >= count, WAIT)
        assert arrived, f"{len(self.requests)} of {count} requests came within {WAIT:g} s"

    async def _open(self) -> None:
        self._runner = web.ServerRunner(web.Server(self._handle, access_log=None), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.SockSite(self._runner, self._socket, backlog=BACKLOG, ssl_context=self._tls).start()

    async def _close(self) -> None:
        self._gate.set()
        await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        seen = Request(request.method, request.path_qs, request.headers, await request.read())
        with self._changed:
            self.requests.append(seen)
            answer = self.answer(seen)
            self._changed.notify_all()
        if answer.held:
            await self._gate.wait()
        if answer.drop and request.transport:
            request.transport.abort()
        body = answer.body.encode() if isinstance(answer.body, str) else answer.body
        return web.Response(status=answer.status, body=body, headers=answer.headers)


def as_answer(answer: int | Answer) -> Answer:
    return Answer(answer, body=b"") if isinstance(answer, int) else answer


@dataclass(frozen=True)
class Mail:
    """One mail as it arrived."""

    sender: str
    recipients: list[str]
    content: bytes
    options: tuple[str, ...] = ()

    @property
    def parsed(self) -> EmailMessage:
        parsed = message_from_bytes(self.content, policy=policy.default)
        assert isinstance(parsed, EmailMessage)
        return parsed


class MailReceiver(Background):
    """Accepts mail. The scripted replies are given first, one for each RCPT or end of DATA.

    login       user and password; when set, nothing is accepted without
    starttls    offers STARTTLS with this context
    without     what it does not offer, such as 8BITMIME or the login's PLAIN
    by_address  the reply to an address's RCPT, each time; asked: the addresses so far
    """

    def __init__(
        self,
        *,
        login: tuple[str, str] | None = None,
        starttls: ssl.SSLContext | None = None,
        without: Collection[str] = (),
    ) -> None:
        super().__init__()
        self.mails: list[Mail] = []
        self.dropped: list[Mail] = []  # arrived, but the connection was cut before the reply
        self.connections = 0
        self.rcpt: deque[str] = deque()
        self.data: deque[str] = deque()
        self.by_address: dict[str, str] = {}
        self.asked: list[str] = []
        self._login = login
        self._starttls = starttls
        self._without = without

    async def _open(self) -> None:
        self._server = await self._loop.create_server(self._session, sock=self._socket, backlog=BACKLOG)

    async def _close(self) -> None:
        self._server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _session(self) -> SMTP:
        self.connections += 1
        return SMTP(
            self,
            hostname="receiver.test",
            loop=self._loop,
            enable_SMTPUTF8="SMTPUTF8" not in self._without,
            tls_context=self._starttls,
            authenticator=self._authenticate if self._login else None,
            auth_required=bool(self._login),
            auth_require_tls=False,
        )

    def _authenticate(self, server: SMTP, session: Session, envelope: Envelope, how: str, given: Any) -> Any:
        from aiosmtpd.smtp import AuthResult

        wanted = self._login and LoginPassword(self._login[0].encode(), self._login[1].encode())
        return AuthResult(success=given == wanted, handled=False)

    async def handle_EHLO(
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        offered = [
            [line[:4], *(word for word in line[4:].split() if word not in self._without)]
            for line in responses
        ]
        return [start + " ".join(words) for start, *words in offered if words]

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        self.asked.append(address)
        reply = self.rcpt.popleft() if self.rcpt else self.by_address.get(address, "250 OK")
        if reply.startswith("250"):
            envelope.rcpt_tos.append(address)
        return reply

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        reply = self.data.popleft() if self.data else "250 taken"
        assert isinstance(envelope.content, bytes)
        options = tuple(envelope.mail_options)
        mail = Mail(str(envelope.mail_from), list(envelope.rcpt_tos), envelope.content, options)
        if reply == "drop" and server.transport:
            self.dropped.append(mail)
            server.transport.abort()
        if reply.startswith("250"):
            self.mails.append(mail)
        return reply
