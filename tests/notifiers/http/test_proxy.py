"""Through a company's proxy: every channel, with and without a login; refused, hung, broken; and never past
the guard."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import pytest
import trustme

from notifications.exceptions import DeliveryError
from notifications.notifiers.base import Notifier
from notifications.notifiers.http.network import Dialler
from notifications.notifiers.http.proxy import Proxies, is_proxy, proxy_at
from tests.notifiers import connect_proxy
from tests.notifiers.connect_proxy import ConnectProxy
from tests.notifiers.support import (
    HTTP_CHANNELS,
    SLACK,
    WEBHOOK,
    Channel,
    Names,
    a_message,
    attempt,
    notifier,
    outcomes,
)
from tests.notifiers.table import CONFIG, HELD, NETWORK, SENT, SERVER, TIMEOUT, Verdict
from tests.notifiers.wire import Wire, answering, for_ever, hang, response

HOST = "hooks.example"  # which only the proxy knows
LOGIN = "certctl:p%40ss-w%C3%B6rd"
PLAIN_LOGIN = "certctl:p@ss-wörd"
every_channel = pytest.mark.parametrize("channel", HTTP_CHANNELS, ids=lambda channel: channel.name)
either_scheme = pytest.mark.parametrize("scheme", ["http", "https"])


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture(scope="module")
def served(authority: trustme.CA) -> ssl.SSLContext:
    """The TLS context of a server with the name that only the proxy knows."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(HOST).configure_cert(context)
    return context


def provider(channel: Channel, tls: ssl.SSLContext | None = None) -> Wire:
    return Wire(answering(response(channel.status, channel.body)), tls=tls)


def through(proxy: ConnectProxy, channel: Channel, server: Wire, login: str = "", **how: Any) -> Notifier:
    url = server.url(channel.path, host=HOST)
    return notifier(channel, url, resolver=Names(), PROXY=proxy.at(login), **how)


@every_channel
def test_https_goes_through_a_tunnel(
    channel: Channel, served: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    with provider(channel, served) as server, ConnectProxy({HOST: server.port}) as proxy:
        made = through(proxy, channel, server, tls=trusting)
        results = outcomes([(made, a_message())] * 3, in_turn=True)
    assert {Verdict.of(result) for result in results} == {SENT}
    assert proxy.asked == [f"CONNECT {HOST}:{server.port}"]  # and the tunnel is used again
    assert f"\r\nHost: {HOST}:{server.port}\r\n" in proxy.heads[0]


@every_channel
def test_plain_http_is_asked_for_in_whole(channel: Channel) -> None:
    with provider(channel) as server, ConnectProxy({HOST: server.port}) as proxy:
        made = through(proxy, channel, server)
        assert Verdict.of(attempt(made)) == SENT
    [asked] = proxy.asked
    assert asked.startswith(f"POST http://{HOST}:{server.port}{channel.path}")
    assert f"\r\nHost: {HOST}:{server.port}\r\n" in proxy.heads[0]


@either_scheme
@pytest.mark.parametrize("login", ["", LOGIN, "certctl:wrong", "certctl"])
def test_a_login_is_the_proxys_and_nobody_elses(
    scheme: str, login: str, served: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    heads: list[str] = []

    async def receiver(reader: Any, writer: Any) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        await reader.readexactly(connect_proxy.length(heads[-1]))
        writer.write(response(200, b"ok"))

    tls = served if scheme == "https" else None
    with Wire(receiver, tls) as server, ConnectProxy({HOST: server.port}, login=PLAIN_LOGIN) as proxy:
        result = attempt(through(proxy, SLACK, server, login, tls=trusting))
    if login == LOGIN:
        assert Verdict.of(result) == SENT
        assert "proxy-auth" not in heads[0].lower()
        return
    assert Verdict.of(result) == HELD
    assert isinstance(result, DeliveryError)
    assert f"the proxy 127.0.0.1:{proxy.port} wants a login: HTTP 407" in str(result)
    assert "HTTPS_PROXY" in result.advice
    assert "wrong" not in str(result)
    assert heads == []


@pytest.mark.parametrize(
    ("answer", "meaning", "said"),
    [
        (
            b"HTTP/1.1 403 Forbidden by policy\r\n\r\n",
            HELD,
            "does not connect to hooks.example: HTTP 403 Forb",
        ),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 3\r\n\r\nno!", NETWORK, "HTTP 502 Bad Gateway"),
        (b"HTTP/1.1 503\r\n\r\n", NETWORK, "HTTP 503"),
        (b"HTTP/1.1 301 Moved\r\nLocation: http://portal.example/\r\n\r\n", NETWORK, "HTTP 301 Moved"),
        (b"HTTP/1.1 403 \x1b[31m\xff\r\n\r\n", HELD, "HTTP 403 \ufffd[31m\ufffd"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", NETWORK, "speaks no HTTP"),
        (b"HTTP/1.1 200 OK\r\n\r\n\x16\x03", NETWORK, "speaks no HTTP"),
        (b"", NETWORK, "closed the connection"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 5_000, NETWORK, "speaks no HTTP"),
    ],
)
def test_what_else_a_proxy_may_say(answer: bytes, meaning: Verdict, said: str) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()

    with Wire(script) as proxy:
        made = notifier(SLACK, f"https://{HOST}/x", resolver=Names(), PROXY=proxy.url(""))
        result = attempt(made)
    assert Verdict.of(result) == meaning
    assert said in str(result)
    assert str(result).isprintable()
    assert f"the proxy 127.0.0.1:{proxy.port}" in str(result)


def test_an_answer_in_pieces_and_an_early_one(served: ssl.SSLContext, trusting: ssl.SSLContext) -> None:
    with provider(SLACK, served) as server, ConnectProxy({HOST: server.port}, pieces=True) as proxy:
        assert Verdict.of(attempt(through(proxy, SLACK, server, tls=trusting))) == SENT


def test_a_tunnel_opens_on_any_success_and_after_an_interim_answer() -> None:
    """Then TLS begins: what the other end says to that is its own."""
    for opening in (b"HTTP/1.0 204 Fine\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"):
        hello: list[bytes] = []

        async def script(
            reader: Any, writer: Any, opening: bytes = opening, hello: list[bytes] = hello
        ) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(opening)
            hello.append(await reader.readexactly(3))

        with Wire(script) as proxy:
            made = notifier(SLACK, f"https://{HOST}/x", resolver=Names(), PROXY=proxy.url(""))
            assert Verdict.of(attempt(made)) == NETWORK
        assert hello == [b"\x16\x03\x01"], opening


@either_scheme
def test_a_proxy_that_hangs_or_is_away(scheme: str) -> None:
    url = f"{scheme}://{HOST}/x"
    with Wire(hang if scheme == "http" else silent) as proxy:
        late = attempt(notifier(SLACK, url, resolver=Names(), PROXY=proxy.url(""), timeout=0.3))
    away = attempt(notifier(SLACK, url, resolver=Names(), PROXY="http://127.0.0.1:1"))
    unknown = attempt(notifier(SLACK, url, resolver=Names(), PROXY="http://proxy.example:3128"))
    assert (Verdict.of(away), Verdict.of(unknown)) == (NETWORK, NETWORK)
    assert "no connection to the proxy 127.0.0.1:1: " in str(away)
    assert "the name of the proxy proxy.example:3128 does not resolve" in str(unknown)
    if scheme == "https":
        assert Verdict.of(late) == TIMEOUT
        assert f"no connection through the proxy 127.0.0.1:{proxy.port} within 0.3 s" in str(late)


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await for_ever()


def test_in_clear_the_proxys_failure_is_an_answer_like_any() -> None:
    with ConnectProxy(answer=response(502, b"cannot reach it")) as proxy:
        result = attempt(notifier(SLACK, f"http://{HOST}/x", resolver=Names(), PROXY=proxy.at()))
    assert Verdict.of(result) == SERVER


# The guard: a recipient's host is checked before the proxy is asked


@either_scheme
@pytest.mark.parametrize(
    "addresses",
    ["127.0.0.1", "10.0.0.5", "169.254.169.254", "::1", "93.184.216.34,10.0.0.5"],
    ids=["loopback", "private", "metadata", "v6", "both"],
)
def test_a_recipient_within_the_network_is_refused_before_the_proxy_is_asked(
    scheme: str, addresses: str
) -> None:
    names = Names(inside_example=[addresses])
    with ConnectProxy() as proxy:
        made = notifier(WEBHOOK, "", resolver=names, PROXY=proxy.at(), ALLOWED_NETWORKS=[])
        result = attempt(made, a_message(recipient=f"{scheme}://inside.example/hook"))
    assert Verdict.of(result) == CONFIG
    assert "inside.example is not a public address" in str(result)
    assert (proxy.connections, proxy.asked) == (0, [])


def test_a_recipient_that_does_not_resolve_here_cannot_be_checked() -> None:
    with ConnectProxy() as proxy:
        made = notifier(WEBHOOK, "", resolver=Names(), PROXY=proxy.at(), ALLOWED_NETWORKS=[])
        result = attempt(made, a_message(recipient=f"https://{HOST}/hook"))
    assert Verdict.of(result) == NETWORK
    assert "looked up before the proxy is asked" in str(result)
    assert proxy.connections == 0


@either_scheme
@pytest.mark.parametrize("allowed", [False, True])
def test_a_recipient_outside_or_allowed_goes_through_the_private_proxy(
    scheme: str, allowed: bool, served: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    names = Names(hooks_example=["10.0.0.5" if allowed else "93.184.216.34"])
    tls = served if scheme == "https" else None
    with provider(WEBHOOK, tls) as server, ConnectProxy({HOST: server.port}) as proxy:
        networks = ["10.0.0.0/8"] if allowed else []
        made = notifier(
            WEBHOOK, "", resolver=names, tls=trusting, PROXY=proxy.at(), ALLOWED_NETWORKS=networks
        )
        result = attempt(made, a_message(recipient=server.url("/hook", host=HOST)))
    assert Verdict.of(result) == SENT
    assert len(proxy.asked) == 1
    assert HOST in proxy.asked[0]


# Which requests go through one


@pytest.mark.parametrize(
    ("rules", "host", "port", "spared"),
    [
        ("", "example.com", 443, False),
        ("*", "example.com", 443, True),
        (" a.example , * ", "example.com", 443, True),
        ("example.com", "example.com", 443, True),
        ("example.com", "api.example.com", 443, True),
        (".example.com", "api.example.com", 443, True),
        ("*.example.com", "api.example.com", 443, True),
        ("Example.COM", "api.EXAMPLE.com", 443, True),
        ("example.com", "notexample.com", 443, False),
        ("example.com", "example.com.evil.test", 443, False),
        ("example.com:8443", "example.com", 8443, True),
        ("example.com:8443", "example.com", 443, False),
        ("10.0.0.0/8", "10.1.2.3", 443, True),
        ("10.0.0.0/8", "11.1.2.3", 443, False),
        ("10.0.0.0/8", "ten.example", 443, False),
        ("10.1.2.3", "10.1.2.3", 443, True),
        ("10.1.2.3:8080", "10.1.2.3", 443, False),
        ("10.1.2.3:8080", "10.1.2.3", 8080, True),
        ("fd00::/8,[2001:db8::1]:8443", "fd00::5", 443, True),
        ("[2001:db8::1]:8443", "2001:db8::1", 8443, True),
        ("[2001:db8::1]:8443", "2001:db8::1", 443, False),
        ("", "localhost", 443, True),
        ("", "127.0.0.1", 443, True),
        ("", "::1", 443, True),
    ],
)
def test_whom_no_proxy_spares(rules: str, host: str, port: int, spared: bool) -> None:
    proxies = Proxies({"https": "http://proxy.example:3128", "no": rules})
    assert (proxies.of(host, port, True) is None) == spared


def test_each_scheme_has_its_own_and_a_channels_one_is_for_all() -> None:
    both = Proxies({"http": "http://one.example", "https": "HTTP://two.example:3128/"})
    assert str(both.of("a.example", 80, False)) == "the proxy one.example:80"
    assert str(both.of("a.example", 443, True)) == "the proxy two.example:3128"
    assert Proxies({"http": "http://one.example"}).of("a.example", 443, True) is None
    assert Proxies("http://[fd00::1]:3128").of("127.0.0.1", 80, False) == proxy_at("http://[fd00::1]:3128")
    assert Proxies.made_of("direct") is Proxies.made_of(None) is Proxies.made_of({}) is None


@pytest.mark.parametrize(
    ("value", "good"),
    [
        ("http://proxy.example:3128", True),
        ("http://user:pass@10.0.0.1:3128/", True),
        ("direct", True),
        ({"http": "http://a", "https": "http://b", "no": "x"}, True),
        ({}, True),
        ("proxy.example:3128", False),
        ("https://proxy.example:3128", False),
        ("socks5://proxy.example:1080", False),
        ("http://", False),
        ("http://proxy.example:hunter2", False),
        ("http://proxy.example:0", False),
        ("http://proxy.example/path", False),
        ("http://[bad", False),
        ({"ftp": "http://a"}, False),
        ({"https": 5}, False),
        (5, False),
        (None, False),
    ],
)
def test_what_names_a_proxy(value: Any, good: bool) -> None:
    assert is_proxy(value) == good


def test_a_check_before_the_proxy_is_asked_looks_at_every_address() -> None:
    names = Names(a_example=["93.184.216.34"], b_example=["93.184.216.34,::ffff:10.0.0.1"])

    async def run() -> None:
        from notifications.notifiers.http.network import BlockedHost, Guard

        dialler = Dialler(Guard(), names)
        await dialler.check("a.example", 443)
        with pytest.raises(BlockedHost):
            await dialler.check("b.example", 443)
        await dialler.close()

    asyncio.run(run())
