"""The one HTTP client: bounded in time and size, follows no redirect, and knows how far it got."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import aiohttp
from aiohttp.abc import AbstractResolver

from ..exceptions import DeliveryError, PermanentError, Reason, TransientError, UnknownOutcome
from .network import KEEP_ALIVE, PROGRESS, Connector, Guard, Progress, Resolver
from .text import cut, hidden, one_line, redact

ANSWER_LIMIT = 64 * 1024
QUOTE_LIMIT = 600
CONNECT_TIMEOUT = 10.0
# An answer is read as it comes and never unpacked, so a small one cannot become a large one.
HEADERS = {"Accept-Encoding": "identity", "User-Agent": "certctl-notifications"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said: status, headers, and at most 64 KiB of the body.

    complete  False when the body broke off, or did not end in time
    url       where it came from, and secrets: what `quoted` must not show
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    complete: bool = True
    url: str = field(default="", repr=False)
    secrets: frozenset[str] = field(default=frozenset(), repr=False)

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace").strip()

    def quoted(self) -> str:
        """`HTTP 503: upstream is down`: the provider's own words in one line, cut, without secrets."""
        words = self.text
        if len(words) > 3:  # too short to hold a secret, and the common case: "ok"
            words = redact(words, hidden(self.url, self.secrets))
        words = cut(one_line(words), QUOTE_LIMIT)
        return f"HTTP {self.status}: {words}" if words else f"HTTP {self.status}"

    def retry_after(self) -> float | None:
        """Retry-After in seconds, from either of its forms (RFC 9110, 10.2.3)."""
        value = self.headers.get("Retry-After", "").strip()
        if re.fullmatch(r"\d+", value, re.ASCII):
            return float(value[:9])
        try:
            when = parsedate_to_datetime(value)
        except (ValueError, OverflowError):
            return None
        return max(0.0, (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


class HttpClient:
    """Posts, once, to what the site configured or (guarded) to what a recipient names.

    timeout   seconds for one request in all, however slowly the answer drips
    allowed   networks that a guarded request may reach although they are not public
    secrets   patterns (text.secrets_of) of what no quotation may show
    resolver  and tls: how names become addresses and what is trusted, where not the system's own
    """

    def __init__(
        self,
        *,
        timeout: float,
        allowed: Iterable[str] = (),
        secrets: frozenset[str] = frozenset(),
        resolver: AbstractResolver | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.timeout = timeout
        self.guard = Guard(allowed)
        self.secrets = secrets
        self.tls = tls
        self._resolver = resolver
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str], *, guarded: bool = False
    ) -> Answer:
        """One POST; any answer at all is returned.

        Raises UnknownOutcome when the request may have been read, TransientError when it was not,
        PermanentError where no request can be made.
        """
        progress = Progress()
        PROGRESS.set(progress)
        try:
            async with self._session(guarded).post(
                url, data=body, headers=headers, allow_redirects=False
            ) as response:
                body, complete = await _read(response)
                return Answer(response.status, response.headers, body, complete, url, self.secrets)
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            if progress.connected:
                raise _unanswered(error, self.timeout) from error
            raise _unconnected(error, progress, self.timeout) from error

    def _session(self, guarded: bool) -> aiohttp.ClientSession:
        if guarded not in self._sessions:
            self._resolver = self._resolver or Resolver()
            connector = Connector(
                limit=0,  # the engine bounds what is in flight
                keepalive_timeout=KEEP_ALIVE,
                resolver=self._resolver,
                socket_factory=self.guard.socket_factory if guarded else None,
                ssl=self.tls or True,
            )
            self._sessions[guarded] = aiohttp.ClientSession(
                connector=connector,
                headers=HEADERS,
                timeout=aiohttp.ClientTimeout(
                    total=self.timeout,
                    sock_connect=min(CONNECT_TIMEOUT, self.timeout),
                    ceil_threshold=float("inf"),  # to the moment, not to the next whole second
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
            )
        return self._sessions[guarded]

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()
        if self._resolver is not None:
            await self._resolver.close()
            self._resolver = None


async def _read(response: aiohttp.ClientResponse) -> tuple[bytes, bool]:
    """At most 64 KiB, and whether that was all; an answer that breaks off keeps its status."""
    chunks = bytearray()
    try:
        while len(chunks) < ANSWER_LIMIT:
            chunk = await response.content.read(ANSWER_LIMIT - len(chunks))
            if not chunk:
                return bytes(chunks), True
            chunks += chunk
            if response.content.at_eof():
                return bytes(chunks), True
    except (TimeoutError, aiohttp.ClientError, OSError):
        pass
    response.close()  # the rest must not be read into a reused connection
    return bytes(chunks), False


def _unanswered(error: Exception, timeout: float) -> DeliveryError:
    """The request was written, or may have been. No text here quotes the URL: it can hold a token."""
    match error:
        case TimeoutError():
            what = f"no answer within {timeout:g} s"
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError():
            what = "the connection closed before an answer"
        case OSError():
            what = f"the connection broke before an answer: {_words(error)}"
        case _:
            what = "an answer that is not HTTP"
    return UnknownOutcome(f"{what}; it may have arrived")


def _unconnected(error: Exception, progress: Progress, timeout: float) -> DeliveryError:
    """Not a byte of the request was written."""
    host = getattr(error, "host", "the server")
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return unverified(error.certificate_error, f"the certificate of {host}")
        case aiohttp.ClientConnectorDNSError():
            return TransientError(f"the name {host} does not resolve", reason=Reason.NETWORK)
        case _ if progress.blocked and not progress.dialled:
            return blocked(host if isinstance(error, aiohttp.ClientConnectorError) else progress.blocked)
        case TimeoutError():
            return TransientError(f"no connection within {timeout:g} s", reason=Reason.TIMEOUT)
        case aiohttp.ClientConnectorError(os_error=ssl.SSLError() as fault):
            return TransientError(f"TLS handshake with {host} failed: {_words(fault)}", reason=Reason.NETWORK)
        case aiohttp.ClientConnectorError(os_error=fault):
            return TransientError(f"no connection to {host}: {_words(fault)}", reason=Reason.NETWORK)
        case aiohttp.InvalidURL() | ValueError():
            return PermanentError(
                "not a URL that a request can be made of",
                reason=Reason.CONFIG,
                advice="correct the address, then requeue",
            )
        case _:
            return TransientError(f"no connection: {_words(error)}", reason=Reason.NETWORK)


def blocked(host: str) -> PermanentError:
    return PermanentError(
        f"{host} is not a public address",
        reason=Reason.CONFIG,
        advice="to allow it add its network to the channel's ALLOWED_NETWORKS "
        "(CERTCTL_WEBHOOK_ALLOWED_NETWORKS), then requeue",
    )


def unverified(error: BaseException, whose: str) -> PermanentError:
    """A certificate that does not verify, over whichever protocol."""
    fault = getattr(error, "verify_message", "") or getattr(error, "reason", "") or type(error).__name__
    return PermanentError(
        f"{whose} does not verify: {fault}",
        reason=Reason.AUTH,
        advice="renew the server's certificate or trust its issuer, then requeue",
    )


def _words(error: BaseException) -> str:
    """The system's words for what broke, never the URL."""
    fault = getattr(error, "reason", None) or getattr(error, "strerror", None)
    return cut(one_line(str(fault)), QUOTE_LIMIT) if fault else type(error).__name__
