"""Every channel gives every answer the meaning that the shared table says."""

from __future__ import annotations

import asyncio
import ssl
import tomllib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import trustme

from notifications.exceptions import DeliveryError, PermanentError, TransientError
from notifications.notifiers.http.client import Answer
from tests.notifiers import table, wire
from tests.notifiers.support import (
    HTTP_CHANNELS,
    OPSGENIE,
    PAGERDUTY,
    SLACK,
    TEAMS,
    WEBHOOK,
    Channel,
    Names,
    a_message,
    attempt,
    attempt_all,
    attempt_each,
    notifier,
    outcomes,
)
from tests.notifiers.table import (
    AUTH,
    CONFIG,
    NETWORK,
    RATE_LIMITED,
    SENT,
    SERVER,
    TIMEOUT,
    UNKNOWN,
    Verdict,
    verdict,
)
from tests.notifiers.wire import Wire, response

REAL = tomllib.loads(Path(__file__).with_name("answers.toml").read_text())
CHANNELS = {channel.name.upper(): channel for channel in HTTP_CHANNELS}
SHORT = 1.5  # seconds: long enough to connect on a busy machine
every_channel = pytest.mark.parametrize("channel", HTTP_CHANNELS, ids=lambda channel: channel.name)


def expected(channel: Channel, status: int) -> Verdict:
    if 200 <= status < 300:
        return SENT
    return AUTH if channel is OPSGENIE and status == 402 else verdict(status)


def judged(channel: Channel, answer: Answer) -> Verdict:
    """The verdict on an answer that no server has to be found for."""
    made: Any = notifier(channel, "https://host.example")
    try:
        return Verdict.of(made.judge(answer))
    except DeliveryError as error:
        return Verdict.of(error)


@every_channel
def test_every_status(channel: Channel) -> None:
    for status in range(100, 600):
        body = channel.body if status == channel.status else b"words"
        assert judged(channel, Answer(status, {}, body)) == expected(channel, status), status


@every_channel
def test_statuses_on_the_wire(channel: Channel) -> None:
    statuses = [s for s in (*range(200, 600), channel.status) if s not in (204, 304)]
    bodies = [channel.body if status == channel.status else b"words" for status in statuses]
    with Wire(wire.answering(*map(response, statuses, bodies))) as server:
        made = notifier(channel, server.url(channel.path))
        results = outcomes([(made, a_message())] * len(statuses), in_turn=True)
        assert server.connections == 1  # answered in full, so every connection was used again
    for status, result in zip(statuses, results, strict=True):
        assert Verdict.of(result) == expected(channel, status), status
        assert result.status == status
        if isinstance(result, PermanentError):
            assert result.advice


@every_channel
@pytest.mark.parametrize("status", [204, 304])
def test_statuses_without_a_body(channel: Channel, status: int) -> None:
    head = f"HTTP/1.1 {status} No Body\r\n\r\n".encode()
    with Wire(wire.answering(head)) as server:
        result = attempt(notifier(channel, server.url(channel.path)))
    assert Verdict.of(result) == expected(channel, status)


@every_channel
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_in_both_forms(channel: Channel, status: int) -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    past = format_datetime(datetime.now(UTC) - timedelta(days=1), usegmt=True)
    for value, low, high in (("7", 7, 7), (" 90 ", 90, 90), (soon, 95, 100), (past, 0, 0)):
        with Wire(wire.answering(response(status, b"", f"Retry-After: {value}"))) as server:
            result = attempt(notifier(channel, server.url(channel.path)))
        assert Verdict.of(result) == RATE_LIMITED
        assert isinstance(result, TransientError)
        assert result.retry_after is not None
        assert low <= result.retry_after <= high


@pytest.mark.parametrize("value", ["", "soon", "-5", "1.5", "٣", "Mon, 99 Nov 2026", "9" * 400])
def test_a_retry_after_that_is_none(value: str) -> None:
    answer = Answer(503, {"Retry-After": value}, b"")
    wait = answer.retry_after()
    assert wait is None or wait >= 10**8
    assert judged(SLACK, answer) == (SERVER if wait is None else RATE_LIMITED)
    assert judged(SLACK, Answer(429, {"Retry-After": value}, b"")) == RATE_LIMITED


@pytest.mark.parametrize("hours", [-5, 5])
def test_a_retry_after_that_is_a_date_is_read_by_the_server_s_clock(hours: int) -> None:
    theirs = datetime.now(UTC) + timedelta(hours=hours)
    later = theirs + timedelta(seconds=90)
    dates = {"Date": format_datetime(theirs, usegmt=True), "Retry-After": format_datetime(later, usegmt=True)}
    assert Answer(503, dates, b"").retry_after() == 90
    assert Answer(503, {**dates, "Date": "soon"}, b"").retry_after() == pytest.approx(
        max(0, hours * 3600 + 90), abs=60
    )


def test_retry_after_says_nothing_on_other_statuses() -> None:
    made = notifier(WEBHOOK, "https://host.example")
    with Wire(wire.answering(response(500, b"", "Retry-After: 9"))) as server:
        made = notifier(WEBHOOK, server.url())
        result = attempt(made)
    assert isinstance(result, TransientError)
    assert (Verdict.of(result), result.retry_after) == (SERVER, None)


@pytest.mark.parametrize(
    "script",
    [wire.hang, wire.hang_up, wire.reset, wire.garbage, wire.drip_headers, wire.mute],
    ids=lambda script: script.__name__,
)
def test_written_but_not_answered(script: wire.Script) -> None:
    with Wire(script) as server:
        results = attempt_each(lambda channel: server.url(channel.path), timeout=SHORT)
    for name, result in results.items():
        assert Verdict.of(result) == UNKNOWN, name
        assert "may have arrived" in str(result)


@pytest.mark.parametrize("script", [wire.drip_body, wire.broken_off])
@pytest.mark.parametrize("status", [400, 500])
def test_an_answer_whose_body_never_ends_counts_by_its_status(
    script: Callable[[int], wire.Script], status: int
) -> None:
    with Wire(script(status)) as server:
        results = attempt_each(lambda channel: server.url(channel.path), timeout=SHORT)
    assert {name: Verdict.of(r) for name, r in results.items()} == dict.fromkeys(results, verdict(status))


def test_without_the_body_that_means_success_nothing_is_known() -> None:
    with Wire(wire.drip_body(200)) as server:
        assert Verdict.of(attempt(notifier(SLACK, server.url(), timeout=SHORT))) == UNKNOWN
        assert Verdict.of(attempt(notifier(WEBHOOK, server.url(), timeout=SHORT))) == SENT


def test_refused_and_unresolved_were_not_written() -> None:
    with Wire(wire.hang) as server:
        closed = server.port
    refused = attempt_each(lambda channel: f"http://127.0.0.1:{closed}{channel.path}")
    unknown = attempt_each(lambda channel: f"https://nowhere.example{channel.path}", resolver=Names())
    assert {Verdict.of(result) for result in (*refused.values(), *unknown.values())} == {NETWORK}


def test_time_that_runs_out_before_the_request_is_written() -> None:
    names = Names(slow_example=["hang"])
    unnamed = attempt_each(
        lambda channel: f"https://slow.example{channel.path}", timeout=SHORT, resolver=names
    )
    with Wire(wire.mute) as server:  # it never answers the TLS handshake
        unencrypted = attempt_each(
            lambda channel: f"https://127.0.0.1:{server.port}{channel.path}", timeout=SHORT
        )
    assert {Verdict.of(result) for result in (*unnamed.values(), *unencrypted.values())} == {TIMEOUT}


@every_channel
def test_certificates(channel: Channel) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    past = datetime.now(UTC) - timedelta(days=1)
    served = {
        SENT: authority.issue_cert("127.0.0.1"),
        AUTH: stranger.issue_cert("127.0.0.1"),
    }
    wrong = [
        (AUTH, authority.issue_cert("other.example")),
        (AUTH, authority.issue_cert("127.0.0.1", not_before=past - timedelta(days=9), not_after=past)),
    ]
    for meaning, certificate in [*served.items(), *wrong]:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        certificate.configure_cert(context)
        with Wire(wire.answering(response(channel.status, channel.body)), tls=context) as server:
            result = attempt(notifier(channel, server.url(channel.path), tls=trusting))
        assert Verdict.of(result) == meaning
        if meaning is AUTH:
            assert "certificate" in str(result)


def test_a_server_that_wants_a_client_certificate(tmp_path: Path) -> None:
    """It says so after the handshake, when the request is written: it has not arrived."""
    with wire.wanting_a_certificate(tmp_path / "trusted.pem") as port:
        trusting = ssl.create_default_context(cafile=str(tmp_path / "trusted.pem"))
        result = attempt(notifier(WEBHOOK, f"https://127.0.0.1:{port}/", tls=trusting))
    assert Verdict.of(result) == AUTH
    assert "client certificate" in str(result)


@pytest.mark.parametrize("script", ["_plain", "_closed"])
def test_a_failed_handshake_is_a_fault_of_the_network(script: str) -> None:
    with Wire(globals()[script]) as server:
        results = attempt_each(lambda channel: f"https://127.0.0.1:{server.port}{channel.path}")
    assert {Verdict.of(result) for result in results.values()} == {NETWORK}


async def _plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(100)
    writer.write(b"HTTP/1.1 400 TLS is not spoken here\r\n\r\n")


async def _closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Returning closes the connection."""


@every_channel
def test_a_redirect_is_not_followed(channel: Channel) -> None:
    """Not even to an address that could be reached: the second server hears nothing."""
    with Wire(wire.answering(response(200, b"ok"))) as other:
        for status in (301, 302, 303, 307, 308):
            for place in (other.url(), "http://169.254.169.254/latest/meta-data/"):
                with Wire(wire.answering(response(status, b"", f"Location: {place}"))) as server:
                    result = attempt(notifier(channel, server.url(channel.path)))
                assert Verdict.of(result) == verdict(status)
                assert result.status == status
                assert place.partition("//")[2].partition("/")[0] in str(result)
        assert other.connections == 0


def test_a_gigabyte_is_not_read() -> None:
    flood = wire.Gigabyte()
    with Wire(flood) as server:
        result = attempt(notifier(WEBHOOK, server.url()))
    assert Verdict.of(result) == SERVER
    assert len(str(result)) <= 2_000
    assert flood.sent < 50_000_000  # what the sockets on both sides hold, and no more


def test_a_bomb_is_not_unpacked() -> None:
    with Wire(wire.answering(wire.bomb())) as server:
        made = notifier(WEBHOOK, server.url())
        result = attempt(made)
    assert Verdict.of(result) == SERVER
    assert len(str(result)) <= 2_000


def test_nobody_is_asked_to_pack_an_answer() -> None:
    heads = []

    async def script(reader: object, writer: object) -> None:
        heads.append((await wire.request(reader))[0])  # type: ignore[arg-type]
        writer.write(response(200))  # type: ignore[attr-defined]

    with Wire(script) as server:
        attempt(notifier(WEBHOOK, server.url()))
    assert "accept-encoding: identity" in heads[0].lower()


@pytest.mark.parametrize(
    "one", REAL["http"], ids=lambda one: f"{one['channel']}-{one['status']}-{one['body'][:20]}"
)
def test_a_provider_in_its_own_words(one: dict[str, Any]) -> None:
    body = one["body"].encode()
    with Wire(wire.answering(response(one["status"], body))) as server:
        result = attempt(notifier(CHANNELS[one["channel"]], server.url()))
    assert one["source"] in REAL["sources"]
    assert Verdict.of(result) == getattr(table, one["meaning"])
    if isinstance(result, DeliveryError) and body:
        assert " ".join(body.decode().split())[:60] in result.text
    if isinstance(result, PermanentError):
        assert result.advice


@pytest.mark.parametrize(
    "url", ["https://", "http://host:99999/", "http://[::1/", "https://" + "a" * 70 + ".x/"]
)
def test_what_is_no_url(url: str) -> None:
    assert Verdict.of(attempt(notifier(SLACK, url))) == CONFIG


@pytest.mark.parametrize(
    ("channel", "option"), [(SLACK, "URL"), (TEAMS, "URL"), (PAGERDUTY, "ROUTING_KEY"), (OPSGENIE, "API_KEY")]
)
def test_what_is_not_configured(channel: Channel, option: str) -> None:
    result = attempt(notifier(channel, "https://host.example", **{option: ""}))
    assert Verdict.of(result) == CONFIG
    assert option in str(result)


def test_connections_are_kept() -> None:
    with Wire(wire.answering(response(200))) as server:
        made = notifier(WEBHOOK, server.url())

        async def one_after_the_other() -> None:
            for _ in range(5):
                await made.send(a_message())
            await made.http.close()

        asyncio.run(one_after_the_other())
        assert server.connections == 1


def test_many_at_once() -> None:
    with Wire(wire.answering(response(200))) as server:
        results = attempt_all(notifier(WEBHOOK, server.url()), [a_message(id=f"n-{i}") for i in range(200)])
    assert {Verdict.of(result) for result in results} == {SENT}
