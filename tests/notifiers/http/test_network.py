"""A recipient's URL reaches the public internet and what ALLOWED_NETWORKS says, and nothing else."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address
from typing import Any

import pytest

from notifications.exceptions import PermanentError, TransientError
from notifications.notifiers.http.network import Guard, Resolver
from tests.notifiers import wire
from tests.notifiers.support import LOOPBACK, SLACK, WEBHOOK, Names, a_message, attempt, attempt_all, notifier
from tests.notifiers.table import CONFIG, NETWORK, SENT, UNKNOWN, Verdict
from tests.notifiers.wire import Wire, response

PUBLIC = ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "64:ff9b::101:101", "::ffff:1.1.1.1"]
REFUSED = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::101:101",
    "100::1",
    "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:101:101::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_public(address: str) -> None:
    assert Guard().permits(ip_address(address))


@pytest.mark.parametrize("address", REFUSED)
def test_not_public(address: str) -> None:
    assert not Guard().permits(ip_address(address))


@pytest.mark.parametrize("address", REFUSED)
def test_allowed_where_the_site_says_so(address: str) -> None:
    ip = ip_address(address)
    assert Guard([f"{address}/{ip.max_prefixlen}"]).permits(ip)
    assert Guard(["0.0.0.0/0", "::/0"]).permits(ip)


def test_what_is_allowed_is_no_wider_than_it_says() -> None:
    guard = Guard([" 10.1.0.0/16 ", "fd12::/16"])
    assert guard.permits(ip_address("10.1.2.3"))
    assert guard.permits(ip_address("::ffff:10.1.2.3"))
    assert guard.permits(ip_address("64:ff9b::a01:203"))
    assert not guard.permits(ip_address("10.2.0.1"))
    assert not guard.permits(ip_address("::ffff:10.2.0.1"))
    assert not guard.permits(ip_address("2002:a01:203::1"))
    assert guard.permits(ip_address("1.1.1.1"))


@pytest.mark.parametrize(
    "network", ["10.0.0.1/8", "10.0.0.0/33", "example.com", "", "10.0.0.0/8 192.168.0.0/16"]
)
def test_what_is_no_network(network: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        Guard([network])


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "LOCALHOST.",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "0.0.0.0",
        "[::]",
        "127.1",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "127.0.0.1.",
        "user@127.0.0.1",
        "example.com@127.0.0.1",
        "①②⑦.⓪.⓪.①",
    ],
)
def test_nothing_here_is_dialled(host: str) -> None:
    """However the address is spelt; the server at that port would hear it."""
    with Wire(wire.answering(response(200))) as server:
        for recipient in (f"http://{host}:{server.port}/", f"https://{host}:{server.port}/"):
            error = attempt(notifier(WEBHOOK, "", ALLOWED_NETWORKS=[]), a_message(recipient=recipient))
            assert isinstance(error, PermanentError | TransientError)
            assert Verdict.of(error) in (CONFIG, NETWORK)
        assert server.connections == 0


def test_the_error_names_the_setting() -> None:
    inside = a_message(recipient="http://127.0.0.1:9/")
    error = attempt(notifier(WEBHOOK, "", ALLOWED_NETWORKS=[]), inside)
    assert Verdict.of(error) == CONFIG
    assert "ALLOWED_NETWORKS" in str(error)
    assert "127.0.0.1 is not a public address" in str(error)


def test_the_address_that_is_dialled_is_the_one_that_was_checked() -> None:
    """A name that answers well at first and then badly (DNS rebinding), by one client after the other."""
    names = Names(rebind_example=["127.0.0.1", "169.254.169.254", "127.0.0.1"])
    with Wire(wire.answering(response(200, b"", "Connection: close"))) as server:
        results = []
        for _ in range(3):
            message = a_message(recipient=f"http://rebind.example:{server.port}/")
            results.append(attempt(notifier(WEBHOOK, "", resolver=names), message))
        assert [Verdict.of(result) for result in results] == [SENT, CONFIG, SENT]
        assert server.connections == 2
    assert names.asked == ["rebind.example"] * 3  # once for each request, and never a second time


def test_within_one_client_a_name_is_looked_up_once() -> None:
    names = Names(rebind_example=["127.0.0.1", "169.254.169.254"])
    with Wire(wire.answering(response(200, b"", "Connection: close"))) as server:
        made = notifier(WEBHOOK, f"http://rebind.example:{server.port}/", resolver=names)
        results = attempt_all(made, [a_message(id=f"n-{number}") for number in range(5)])
    assert {Verdict.of(result) for result in results} == {SENT}
    assert len(names.asked) == 1


@pytest.mark.parametrize(
    ("addresses", "meaning"),
    [
        ("169.254.169.254", CONFIG),
        ("10.0.0.1,169.254.169.254,::1", CONFIG),
        ("10.0.0.1,127.0.0.1", SENT),
        ("127.0.0.1,10.0.0.1", SENT),
        ("127.0.0.9,10.0.0.1", NETWORK),  # what may be dialled is down: that can pass
    ],
)
def test_a_name_with_several_addresses(addresses: str, meaning: Verdict) -> None:
    with Wire(wire.answering(response(200))) as server:
        names, allowed = Names(many_example=[addresses]), ["127.0.0.0/8"]
        made = notifier(WEBHOOK, "", resolver=names, ALLOWED_NETWORKS=allowed)
        message = a_message(recipient=f"http://many.example:{server.port}/")
        assert Verdict.of(attempt(made, message)) == meaning


def test_a_blocked_and_an_allowed_endpoint_do_not_share_connections() -> None:
    """A connection is only reused for the name that it was made for."""
    names = Names(good_example=["127.0.0.1"], bad_example=["10.0.0.1"])
    with Wire(wire.answering(response(200))) as server:
        made = notifier(WEBHOOK, "", resolver=names)
        recipients = [f"http://{host}.example:{server.port}/" for host in ("good", "bad", "good")]
        results = attempt_all(made, [a_message(recipient=recipient) for recipient in recipients])
    assert [Verdict.of(result) for result in results] == [SENT, CONFIG, SENT]


@pytest.mark.parametrize("channel", [SLACK, WEBHOOK], ids=lambda channel: channel.name)
def test_what_the_site_itself_configured_is_not_guarded(channel: Any) -> None:
    """A URL of the settings may be inside the network; a recipient may not name that very one."""
    with Wire(wire.answering(response(200, b"ok"))) as server:
        made = notifier(channel, server.url(), ALLOWED_NETWORKS=[])
        assert Verdict.of(attempt(made, a_message(recipient="#pki"))) == SENT
        made = notifier(WEBHOOK, server.url(), ALLOWED_NETWORKS=[])
        assert Verdict.of(attempt(made, a_message(recipient=server.url()))) == CONFIG
        assert server.connections == 1


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1"])
def test_the_resolver(host: str) -> None:
    async def look_up() -> list[Any]:
        resolver = Resolver()
        try:
            return await resolver.resolve(host, 80)
        finally:
            resolver.close()

    found = asyncio.run(look_up())
    assert {info.sockaddr[0] for info in found} <= {"127.0.0.1", "::1"}
    assert found


def test_a_name_that_hangs_delays_nobody_else() -> None:
    names = Names(slow_example=["hang"], good_example=["127.0.0.1"])
    with Wire(wire.answering(response(200))) as server:
        made = notifier(WEBHOOK, "", resolver=names, timeout=3.0)
        slow = [f"http://slow.example:{port}/" for port in range(1, 100)]
        quick = [f"http://good.example:{server.port}/"] * 20
        results = attempt_all(made, [a_message(recipient=recipient) for recipient in slow + quick])
    assert {Verdict.of(result) for result in results[99:]} == {SENT}
    assert all(isinstance(result, TransientError) for result in results[:99])


def test_ten_thousand_hosts_do_not_use_up_the_file_descriptors() -> None:
    names = Names(**{f"h{number}_example": ["127.0.0.1"] for number in range(300)})
    with Wire(wire.answering(response(200))) as server:
        made = notifier(WEBHOOK, "", resolver=names)
        idle: list[int] = []

        async def run() -> None:
            for number in range(300):
                await made.send(a_message(recipient=f"http://h{number}.example:{server.port}/"))
            idle.append(len(made.http._idle))
            await made.http.close()

        asyncio.run(run())
    assert idle[0] <= 102


def test_loopback_is_reached_where_it_is_allowed() -> None:
    with Wire(wire.hang_up) as server:
        made = notifier(WEBHOOK, "", ALLOWED_NETWORKS=LOOPBACK)
        assert Verdict.of(attempt(made, a_message(recipient=server.url()))) == UNKNOWN
