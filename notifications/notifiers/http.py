"""The one HTTP client: bounded in time and size, follows no redirect, and tells outcomes apart."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import aiohttp

from ..exceptions import PermanentError, Reason, TransientError, UnknownOutcome
from .network import BlockedAddress, Guard

ANSWER_LIMIT = 64 * 1024
QUOTE_LIMIT = 300
CONNECT_TIMEOUT = 10.0

TRANSIENT_REASONS = {408: Reason.TIMEOUT, 425: Reason.OTHER, 429: Reason.RATE_LIMITED}
PERMANENT_REASONS = {
    400: Reason.CLIENT,
    401: Reason.AUTH,
    403: Reason.AUTH,
    410: Reason.GONE,
    413: Reason.CLIENT,
    415: Reason.CLIENT,
    422: Reason.CLIENT,
}
ADVICE = {
    Reason.AUTH: "the provider refused the credentials; correct them, then requeue",
    Reason.GONE: "the destination is gone; set a new one, then requeue",
    Reason.CLIENT: "the provider refuses this message as it is; repeating it unchanged will not help",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said: status, headers, and at most 64 KiB of the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace").strip()

    def quoted(self) -> str:
        """`503 Service Unavailable: upstream is down`: the provider's own words, in one line, cut."""
        words = " ".join(self.text.split())
        words = words if len(words) <= QUOTE_LIMIT else words[: QUOTE_LIMIT - 1] + "…"
        return f"HTTP {self.status}: {words}" if words else f"HTTP {self.status}"

    def retry_after(self) -> float | None:
        """Retry-After in seconds, from either of its forms (RFC 9110, 10.2.3)."""
        value = self.headers.get("Retry-After", "").strip()
        if value.isascii() and value.isdigit():
            return float(value[:9])
        try:
            when = parsedate_to_datetime(value)
        except ValueError:
            return None
        return max(0.0, (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


class HttpClient:
    """Posts to endpoints that the site configured (`post`) or that a recipient names (`post_guarded`).

    timeout  seconds for one request in all, however slowly the answer drips
    allowed  networks that a recipient may name although they are not public
    """

    def __init__(self, *, timeout: float, allowed: Iterable[str] = ()) -> None:
        self.timeout = timeout
        self.guard = Guard(allowed)
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str], *, guarded: bool = False
    ) -> Answer:
        """One POST; any answer at all is returned.

        Raises UnknownOutcome when the request may have been read, TransientError when it was not,
        PermanentError for a URL that no request can be made of.
        """
        session = self._session(guarded)
        try:
            async with session.post(url, data=body, headers=headers, allow_redirects=False) as response:
                return Answer(response.status, response.headers, await _read(response))
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            raise _delivery_error(error, self.timeout) from error

    def _session(self, guarded: bool) -> aiohttp.ClientSession:
        if guarded not in self._sessions:
            self._sessions[guarded] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0,  # the engine bounds what is in flight
                    socket_factory=self.guard.socket_factory if guarded else None,
                ),
                timeout=aiohttp.ClientTimeout(
                    total=self.timeout, sock_connect=min(CONNECT_TIMEOUT, self.timeout)
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,  # a small answer cannot unpack into a large one
                trust_env=False,
            )
        return self._sessions[guarded]

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """At most 64 KiB; an answer that breaks off after its status still counts by its status."""
    chunks = bytearray()
    try:
        while len(chunks) < ANSWER_LIMIT and (
            chunk := await response.content.read(ANSWER_LIMIT - len(chunks))
        ):
            chunks += chunk
    except (aiohttp.ClientError, OSError):
        pass
    if not response.content.at_eof():
        response.close()  # what is left of a large answer must not be read into a reused connection
    return bytes(chunks)


def _delivery_error(error: BaseException, timeout: float) -> Exception:
    """What a failed request means. No text here quotes the URL: it can hold a token."""
    match error:
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError():
            return PermanentError(
                "not an http or https URL", reason=Reason.CONFIG, advice="correct the address"
            )
        case aiohttp.ClientConnectorCertificateError():
            return PermanentError(
                f"the server's certificate does not verify: {_certificate_fault(error)}",
                reason=Reason.AUTH,
                advice="renew the server's certificate or trust its issuer, then requeue",
            )
        case aiohttp.ClientConnectorError(os_error=os_error):
            return _connect_error(error, os_error)
        case aiohttp.ConnectionTimeoutError():
            return TransientError("no connection in time", reason=Reason.TIMEOUT)
        case TimeoutError():
            return UnknownOutcome(f"no answer within {timeout:g} s; it may have arrived")
        case ValueError():
            return PermanentError(
                "not a URL that can be used", reason=Reason.CONFIG, advice="correct the address"
            )
        case _:
            return UnknownOutcome(f"{_name(error)} after the request was written; it may have arrived")


def _connect_error(error: aiohttp.ClientConnectorError, os_error: OSError) -> Exception:
    if isinstance(os_error, BlockedAddress) or "blocked address" in str(os_error):
        return PermanentError(
            f"{error.host} is not a public address",
            reason=Reason.CONFIG,
            advice="to allow it, add its network to the channel's ALLOWED_NETWORKS",
        )
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return TransientError(f"the name {error.host} does not resolve", reason=Reason.NETWORK)
    if isinstance(os_error, ssl.SSLError):
        return TransientError(
            f"TLS handshake failed: {os_error.reason or 'no reason given'}", reason=Reason.NETWORK
        )
    words = os_error.strerror or _name(os_error)
    return TransientError(f"no connection to {error.host}: {words}", reason=Reason.NETWORK)


def _certificate_fault(error: aiohttp.ClientConnectorCertificateError) -> str:
    return getattr(error.certificate_error, "verify_message", "") or _name(error.certificate_error)


def _name(error: BaseException) -> str:
    words = {
        asyncio.IncompleteReadError: "the connection closed",
        aiohttp.ServerDisconnectedError: "the connection closed",
    }
    return words.get(
        type(error), "the connection broke" if isinstance(error, OSError) else "an unreadable answer"
    )


def raise_for(answer: Answer) -> None:
    """Raise the delivery error that an HTTP status means everywhere; 2xx returns."""
    status = answer.status
    if 200 <= status < 300:
        return
    if reason := PERMANENT_REASONS.get(status):
        raise PermanentError(answer.quoted(), reason=reason, status=status, advice=ADVICE[reason])
    retry_after = answer.retry_after() if status in (429, 503) else None
    reason = TRANSIENT_REASONS.get(status, Reason.SERVER if status >= 500 else Reason.OTHER)
    if status == 503 and retry_after is not None:
        reason = Reason.RATE_LIMITED
    raise TransientError(answer.quoted(), reason=reason, status=status, retry_after=retry_after)
