"""The one HTTP client: bounded in time and size, follows no redirect, and knows how far it got."""

from __future__ import annotations

import asyncio
import base64
import re
import socket
import ssl
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import quote, unquote, urljoin, urlsplit

import idna

from ...exceptions import DeliveryError, PermanentError, Reason, TransientError, UnknownOutcome
from ...text import cut, hidden, one_line, redact
from .connection import Connection, Disconnected, NotHttp
from .deadlines import Deadlines
from .network import BlockedHost, Dialler, Guard, Resolver
from .proxy import PROXY_ADVICE, Proxies, Proxy, refused, tunnel

QUOTE_LIMIT = 600
CONNECT_TIMEOUT = 10.0
IDLE_HOSTS = 100  # beyond these no idle connection is kept: ten thousand hosts would use up the descriptors
KEEP_ALIVE = 4.0  # shorter than what common servers keep, so that a request rarely meets a closing one
# An answer is read as it comes and never unpacked, so a small one cannot become a large one.
ALWAYS = "Accept: */*\r\nAccept-Encoding: identity\r\n"
AGENT = "User-Agent: certctl-notifications\r\n"
LABEL = r"[A-Za-z0-9_-]{1,63}"
HOST = re.compile(rf"(?=.{{1,254}}$){LABEL}(\.{LABEL})*\.?|\[[0-9A-Fa-f:.]+\]")


@dataclass(slots=True)
class Answer:
    """What the server said: status, headers, and at most 64 KiB of the body.

    complete  False when the body broke off, or did not end in time
    url       where it came from, and secrets: what `quoted` must not show
    peer      the address that it came from
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    complete: bool = True
    url: str = field(default="", repr=False)
    secrets: frozenset[str] = field(default=frozenset(), repr=False)
    peer: str = ""

    def dialogue(self) -> list[str]:
        return [f"connected to {self.peer}"] if self.peer else []

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

    def target(self) -> str:
        """Where a redirect leads: a host and a path, without the query and what can be a secret."""
        place = urljoin(self.url, self._header("location"))
        if not self._header("location"):
            return ""
        shown = redact(place.partition("?")[0], hidden(self.url, self.secrets))
        return cut(one_line(re.sub(r"//[^/@]*@", "//", shown)), QUOTE_LIMIT)

    def retry_after(self) -> float | None:
        """Retry-After in seconds, from either of its forms (RFC 9110, 10.2.3); dates by their clock."""
        value = self._header("retry-after")
        if re.fullmatch(r"\d+", value, re.ASCII):
            return float(value[:9])
        when = http_date(value)
        now = http_date(self._header("date")) or datetime.now(UTC)
        return max(0.0, (when - now).total_seconds()) if when else None

    def _header(self, wanted: str) -> str:
        return next((value for name, value in self.headers.items() if name.lower() == wanted), "").strip()


class Origin(NamedTuple):
    host: str
    port: int
    tls: bool


class ParsedUrl(NamedTuple):
    """A URL as a request needs it. place: the host as it is written, and the port where that is; head: the
    request's first lines; login: of an Authorization header."""

    origin: Origin
    place: str
    head: str
    login: str

    def through(self, proxy: Proxy) -> ParsedUrl:
        """As the proxy wants it that passes on a request in clear: a tunnel has asked it before."""
        if self.origin.tls:
            return self
        whole = self.head.replace("POST ", f"POST http://{self.place}", 1)
        return self._replace(head=f"{whole}{proxy.login}")


@lru_cache(maxsize=1)
def trusted() -> ssl.SSLContext:
    """The system's trust; loading it takes longer than a handshake."""
    return ssl.create_default_context()


def whom_the_system_trusts(*, own: bool) -> ssl.SSLContext:
    return trusted()


class HttpClient:
    """Posts, once, to what the site configured or (guarded) to what a recipient names.

    timeout   seconds for one request in all, however slowly the answer drips
    allowed   networks that a guarded request may reach although they are not public
    secrets   patterns (text.secrets_of) of what no quotation may show
    resolver  how names become addresses, where not as the system does it
    tls       what is trusted and shown: tls(own=…) as TlsFiles.context
    proxies   the way out, where there is no other
    headers   of every request that is the site's own: not guarded, or to the host that `home` names
    """

    def __init__(
        self,
        *,
        timeout: float,
        allowed: Iterable[str] = (),
        secrets: frozenset[str] = frozenset(),
        resolver: Resolver | None = None,
        tls: Callable[..., ssl.SSLContext] = whom_the_system_trusts,
        proxies: Proxies | None = None,
        headers: Mapping[str, str] = MappingProxyType({}),
        home: str = "",
    ) -> None:
        self.timeout = timeout
        self.secrets = secrets
        self._tls = tls
        self._proxies = proxies
        self._headers = headers
        self._home = origin_of(home)
        self._dialler = Dialler(Guard(allowed), resolver)
        self._idle: defaultdict[tuple[Origin, bool], list[Connection]] = defaultdict(list)
        self._deadlines = Deadlines(timeout, Connection.late)
        self._idle_timer: asyncio.TimerHandle | None = None

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str], *, guarded: bool = False
    ) -> Answer:
        """One POST; any answer at all is returned.

        Raises UnknownOutcome when the request may have been read, TransientError when it was not,
        PermanentError where no request can be made.
        """
        proxy = None
        try:
            address = parsed(url)
            if self._headers and self._is_own(address.origin, guarded):
                headers = together(headers, self._headers)
            if self._proxies and (proxy := self._proxies.of(*address.origin)):
                address = address.through(proxy)
            request = written(address, body, headers)
        except ValueError as error:
            raise unusable() from error
        start = time.monotonic()
        connection = self._reused(address, guarded) or await self._connected(address.origin, guarded, proxy)
        if (spent := time.monotonic() - start) >= self.timeout:  # this process or its machine stood still
            connection.close()
            raise _unconnected(TimeoutError(), address.origin.host, self.timeout)
        self._deadlines.begin(connection, spent)
        try:
            reply = await connection.exchange(request)
        except (TimeoutError, NotHttp, Disconnected, OSError) as error:
            raise _unanswered(error, self.timeout) from error
        except asyncio.CancelledError:
            connection.close()
            raise
        finally:
            self._deadlines.done(connection)
        self._keep(connection, address, guarded)
        if proxy and reply.status == 407:
            refused(proxy, reply.status, "", address.origin.host)
        return Answer(*reply, url, self.secrets, connection.peer)

    def _is_own(self, origin: Origin, guarded: bool) -> bool:
        return not guarded or origin == self._home

    async def _connected(self, origin: Origin, guarded: bool, proxy: Proxy | None) -> Connection:
        """Not a byte of the request is written here, so whatever fails was not sent."""
        seconds = min(CONNECT_TIMEOUT, self.timeout)
        try:
            async with asyncio.timeout(seconds):
                tls = self._tls(own=self._is_own(origin, guarded)) if origin.tls else None
                sock = await (
                    self._through(proxy, origin, guarded)
                    if proxy
                    else self._dialler.dial(origin.host, origin.port, guarded=guarded)
                )
                try:
                    _, connection = await asyncio.get_running_loop().create_connection(
                        Connection, sock=sock, ssl=tls, server_hostname=origin.host if tls else None
                    )
                except BaseException:
                    sock.close()
                    raise
        except (OSError, ValueError) as error:
            raise _unconnected(error, origin.host, seconds, f" through {proxy}" if proxy else "") from error
        if proxy:
            connection.peer = str(proxy)
        return connection

    async def _through(self, proxy: Proxy, origin: Origin, guarded: bool) -> socket.socket:
        """A socket that ends at the origin, or for plain http at the proxy.

        The proxy looks the host up by itself, and may be private; so a guarded host is looked up before."""
        if guarded:
            await self._dialler.check(origin.host, origin.port)
        try:
            sock = await self._dialler.dial(proxy.host, proxy.port, guarded=False)
        except OSError as error:
            raise unreached(proxy, error) from error
        if origin.tls:
            try:
                await tunnel(sock, proxy, origin.host, origin.port, AGENT)
            except BaseException:
                sock.close()
                raise
        return sock

    def _reused(self, address: ParsedUrl, guarded: bool) -> Connection | None:
        """A connection is only used again for the name that it was made for."""
        idle = self._idle.get((address.origin, guarded))
        now = time.monotonic()
        while idle:
            connection = idle.pop()
            if connection.reusable and now - connection.idle_since < KEEP_ALIVE:
                return connection
            connection.close()
        return None

    def _keep(self, connection: Connection, address: ParsedUrl, guarded: bool) -> None:
        if not connection.reusable:
            return
        key = (address.origin, guarded)
        if len(self._idle) >= IDLE_HOSTS and key not in self._idle:
            connection.close()
            return
        connection.idle_since = time.monotonic()
        self._idle[key].append(connection)
        if self._idle_timer is None:
            self._idle_timer = asyncio.get_running_loop().call_later(KEEP_ALIVE, self._close_idle)

    def _close_idle(self) -> None:
        """Close what has been idle for too long, and look again while anything is."""
        oldest = time.monotonic() - KEEP_ALIVE
        for key, idle in list(self._idle.items()):
            for connection in idle:
                if connection.idle_since < oldest:
                    connection.close()
            self._idle[key] = [connection for connection in idle if connection.reusable]
            if not self._idle[key]:
                del self._idle[key]
        later = asyncio.get_running_loop().call_later
        self._idle_timer = later(KEEP_ALIVE, self._close_idle) if self._idle else None

    async def close(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        for idle in self._idle.values():
            for connection in idle:
                connection.close()
        self._idle.clear()
        self._deadlines.close()
        await self._dialler.close()
        await asyncio.sleep(0)  # a closed connection says so in the loop's next turn


def http_date(text: str) -> datetime | None:
    try:
        when = parsedate_to_datetime(text)
        return when.replace(tzinfo=when.tzinfo or UTC)
    except (ValueError, OverflowError):
        return None


@lru_cache(maxsize=1024)
def parsed(url: str) -> ParsedUrl:
    """Raises ValueError for what no request can be made of."""
    parts = urlsplit(url)
    host, tls = ascii_host(parts.hostname or ""), parts.scheme == "https"
    shown = f"[{host}]" if ":" in host else host
    if parts.scheme not in ("http", "https") or not HOST.fullmatch(shown):
        raise ValueError("not a URL")
    port = (443 if tls else 80) if parts.port is None else parts.port
    if not port:
        raise ValueError("no such port")
    if parts.port is not None:
        shown += f":{parts.port}"
    target = percent_encoded(parts.path or "/") + (f"?{percent_encoded(parts.query)}" if parts.query else "")
    head = f"POST {target} HTTP/1.1\r\nHost: {shown}\r\n{ALWAYS}"
    login = ""
    if parts.username is not None or parts.password is not None:
        plain = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
        login = f"Authorization: Basic {base64.b64encode(plain.encode()).decode()}\r\n"
    return ParsedUrl(Origin(host.rstrip("."), port, tls), shown, head, login)


def origin_of(url: str) -> Origin | None:
    try:
        return parsed(url).origin if url else None
    except ValueError:
        return None


def ascii_host(host: str) -> str:
    """Raises ValueError for a name that IDNA 2008 does not know (with UTS 46's mapping, as browsers do)."""
    if host.isascii():
        return host
    return idna.encode(host, uts46=True).decode("ascii")


def percent_encoded(text: str) -> str:
    """A path or query with all that may not stand in a request line in percent signs."""
    return quote(re.sub(r"%(?![0-9A-Fa-f]{2})", "%25", text), safe="/?:@!$&'()*+,;=-._~%")


def written(address: ParsedUrl, body: bytes, headers: Mapping[str, str]) -> bytes:
    """The request's bytes. Raises ValueError for a header that would begin another."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if lines.count("\n") + lines.count("\r") != 2 * len(headers) or "\x00" in lines:
        raise ValueError("a header with a line break")
    login = "" if "Authorization" in headers else address.login
    agent = "" if "User-Agent" in headers else AGENT
    head = f"{address.head}{agent}{login}{lines}Content-Length: {len(body)}\r\n\r\n"
    return head.encode("utf-8", "replace") + body


def _unanswered(error: Exception, timeout: float) -> DeliveryError:
    """The request was written, or may have been. No text here quotes the URL: it can hold a token."""
    match error:
        case ssl.SSLError() if wants_certificate(error):
            return PermanentError(
                "the server wants a client certificate, so it read nothing",
                reason=Reason.AUTH,
                advice="give the channel one (TLS_CERT, TLS_KEY) or an address that wants none, then requeue",
            )
        case TimeoutError():
            what = f"no answer within {timeout:g} s"
        case Disconnected():
            what = "the connection closed before an answer"
        case OSError():
            what = f"the connection broke before an answer: {_words(error)}"
        case _:
            what = "an answer that is not HTTP"
    return UnknownOutcome(f"{what}; it may have arrived")


def together(headers: Mapping[str, str], others: Mapping[str, str]) -> dict[str, str]:
    """The others win, in whichever case their names are written."""
    names = {name.lower(): name for name in (*headers, "Authorization", "User-Agent")}
    return {**headers, **{names.get(name.lower(), name): value.strip() for name, value in others.items()}}


def unreached(proxy: Proxy, error: OSError) -> DeliveryError:
    unknown = isinstance(error, socket.gaierror)
    text = (
        f"the name of {proxy} does not resolve" if unknown else f"no connection to {proxy}: {_words(error)}"
    )
    return TransientError(text, reason=Reason.NETWORK, advice=PROXY_ADVICE)


def _unconnected(error: Exception, host: str, seconds: float, way: str = "") -> DeliveryError:
    """Not a byte of the request was written. way: in words, where it is not the direct one."""
    match error:
        case BlockedHost():
            return blocked(host)
        case ssl.SSLCertVerificationError():
            return unverified(error, f"the certificate of {host}")
        case ssl.SSLError():
            return TransientError(f"TLS handshake with {host} failed: {_words(error)}", reason=Reason.NETWORK)
        case socket.gaierror() | UnicodeError():
            why = ", and what a recipient names is looked up before the proxy is asked" if way else ""
            return TransientError(f"the name {host} does not resolve{why}", reason=Reason.NETWORK)
        case TimeoutError():
            return TransientError(f"no connection{way} within {seconds:g} s", reason=Reason.TIMEOUT)
        case _:
            return TransientError(f"no connection to {host}{way}: {_words(error)}", reason=Reason.NETWORK)


def unusable() -> PermanentError:
    return PermanentError(
        "no request can be made of this address and these settings",
        reason=Reason.CONFIG,
        advice="correct the address or the channel's key, then requeue",
    )


def blocked(host: str) -> PermanentError:
    return PermanentError(
        f"{host} is not a public address",
        reason=Reason.CONFIG,
        advice="to allow it add its network to the channel's ALLOWED_NETWORKS "
        "(CERTCTL_WEBHOOK_ALLOWED_NETWORKS), then requeue",
    )


def wants_certificate(error: BaseException) -> bool:
    """Whether a TLS alert says so. In TLS 1.3 it comes after the handshake, when something was written."""
    reason = str(getattr(error, "reason", "") or "")
    return isinstance(error, ssl.SSLError) and re.search(r"CERTIFICATE_REQUIRED", reason) is not None


def unverified(error: BaseException, whose: str) -> PermanentError:
    """A certificate that does not verify, over whichever protocol."""
    fault = getattr(error, "verify_message", "") or getattr(error, "reason", "") or type(error).__name__
    return PermanentError(
        f"{whose} does not verify: {fault}",
        reason=Reason.AUTH,
        advice="renew the server's certificate or trust its issuer (TLS_CA), then requeue",
    )


def _words(error: BaseException) -> str:
    """The system's words for what broke, never the URL."""
    fault = getattr(error, "reason", None) or getattr(error, "strerror", None)
    return cut(one_line(str(fault)), QUOTE_LIMIT) if fault else type(error).__name__
