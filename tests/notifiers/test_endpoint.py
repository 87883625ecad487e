"""Which rows go to an endpoint: its Python and its SQL, held against each other on the database."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from notifications.models import NotificationEvent
from notifications.notifiers.base import Endpoint
from notifications.notifiers.endpoint import going_to
from tests import factories

EVENTS = NotificationEvent.objects
CHANNELS = st.sampled_from(
    ["Webhook", "webhook", "WEBHOOK", "Slack", "Ünïcode", "ünïcode", "straße", "STRASSE", "İ"]
)
PIECES = st.sampled_from(
    [
        "http",
        "https",
        "HTTP",
        ":",
        "://",
        "/",
        "?",
        "#",
        "a",
        "A",
        "b.example",
        "@",
        " ",
        "\t",
        "%",
        "_",
        "\\",
        "'",
    ]
)
RECIPIENTS = st.lists(PIECES, max_size=7).map("".join)
ENDPOINTS = st.builds(
    Endpoint,
    key=st.just("here"),
    channel=CHANNELS,
    recipient_prefix=st.none() | RECIPIENTS,
    exact=st.booleans(),
)

WEBHOOK, HOST = Endpoint("k", "Webhook"), Endpoint("k", "Webhook", "https://a/")
OWN_WORDS = Endpoint("k", "Webhook", exact=True)  # rows whose recipient is no address of its own
DOOR, PREFIX = Endpoint("k", "Webhook", "https://a/x", exact=True), Endpoint("k", "Webhook", "https://a/x")
COVERED: list[tuple[Endpoint, str, str, bool]] = [
    (WEBHOOK, "Webhook", "anything", True),
    (WEBHOOK, "wEBHOOK", "https://a/", True),
    (WEBHOOK, "Web", "anything", False),
    (Endpoint("k", "Webhook", ""), "webhook", "", True),
    (Endpoint("k", "STRASSE"), "straße", "x", False),
    (Endpoint("k", "Ünïcode"), "ÜNÏCODE", "x", False),
    (Endpoint("k", "Ünïcode"), "ÜnïCODE", "x", True),
    (OWN_WORDS, "webhook", "ops", True),
    (OWN_WORDS, "webhook", "", True),
    (OWN_WORDS, "webhook", "httpx://a", True),
    (OWN_WORDS, "webhook", "ftp:http:", True),
    (OWN_WORDS, "webhook", "http:a", False),
    (OWN_WORDS, "webhook", "HTTPS://a/", False),
    (OWN_WORDS, "webhook", " \t\n\r\f\vhttp://a/", False),
    (OWN_WORDS, "webhook", "\xa0http://a/", True),
    (OWN_WORDS, "slack", "ops", False),
    (HOST, "webhook", "https://a/", True),
    (HOST, "webhook", "https://a/x?y#z", True),
    (HOST, "webhook", "https://a", False),
    (HOST, "webhook", "https://a?x", False),
    (HOST, "webhook", "https://A/x", False),
    (HOST, "webhook", " https://a/x", False),
    (HOST, "webhook", "https://ab/x", False),
    (HOST, "slack", "https://a/x", False),
    (Endpoint("k", "Webhook", "https://a?"), "webhook", "https://a?x/y", True),
    (Endpoint("k", "Webhook", "https://a#"), "webhook", "https://a#x/y", True),
    (Endpoint("k", "Webhook", "https://a?"), "webhook", "https://a/?x", False),
    (Endpoint("k", "Webhook", "x:///"), "webhook", "x:///p", True),
    (Endpoint("k", "Webhook", "://a/"), "webhook", "://a/p", True),
    (Endpoint("k", "Webhook", "a/b://c/"), "webhook", "a/b://c/d", True),
    (Endpoint("k", "Webhook", "b://c/"), "webhook", "a/b://c/d", False),
    (Endpoint("k", "Webhook", "a?b://c/"), "webhook", "a?b://c/d", True),
    (Endpoint("k", "Webhook", "a#b://c/"), "webhook", "a#b://c/d", True),
    (PREFIX, "webhook", "https://a/xyz", True),
    (PREFIX, "webhook", "https://a/Xyz", False),
    (Endpoint("k", "Webhook", "100%_"), "webhook", "100%_x", True),
    (Endpoint("k", "Webhook", "100%_"), "webhook", "100xxx", False),
    (DOOR, "webhook", "https://a/x", True),
    (DOOR, "webhook", "https://a/xyz", False),
    (DOOR, "slack", "https://a/x", False),
]


@pytest.mark.django_db
@pytest.mark.parametrize(("endpoint", "channel", "recipient", "covered"), COVERED)
def test_which_rows_go_there(endpoint: Endpoint, channel: str, recipient: str, covered: bool) -> None:
    factories.pending(channel=channel, recipient=recipient)
    assert endpoint.covers(channel, recipient) is covered
    assert EVENTS.filter(going_to([endpoint])).exists() is covered
    assert EVENTS.exclude(going_to([endpoint])).exists() is not covered


@pytest.mark.django_db
def test_several_endpoints_of_every_kind_are_one_condition() -> None:
    every = [Endpoint("k", "Slack"), Endpoint("k", "Email", exact=True), HOST, DOOR, PREFIX]
    for channel, recipient in (("Slack", "x"), ("Email", "y"), ("Webhook", "https://a/z"), ("Teams", "t")):
        factories.pending(channel=channel, recipient=recipient)
    assert set(EVENTS.filter(going_to(every)).values_list("channel", flat=True)) == {
        "Slack",
        "Email",
        "Webhook",
    }
    assert not EVENTS.filter(going_to([])).exists()
    assert EVENTS.exclude(going_to([])).count() == 4


def test_a_host_serves_many() -> None:
    assert [one.serves_many for one in (HOST, DOOR, WEBHOOK, OWN_WORDS)] == [True, False, False, False]


@pytest.mark.django_db
@given(
    rows=st.lists(st.tuples(CHANNELS, RECIPIENTS), min_size=1, max_size=12),
    endpoints=st.lists(ENDPOINTS, max_size=5),
    prefixes=st.lists(st.integers(0, 20), max_size=3),
)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_python_and_sql_agree(
    rows: list[tuple[str, str]], endpoints: list[Endpoint], prefixes: list[int]
) -> None:
    EVENTS.all().delete()
    events = [factories.pending(channel=channel, recipient=recipient) for channel, recipient in rows]
    # Beginnings of recipients that exist, so that the interesting cases are not rare.
    channel, recipient = rows[0]
    endpoints += [Endpoint("part", channel, recipient[:length], exact=False) for length in prefixes]
    covered = {e.pk for e in events if any(one.covers(e.channel, e.recipient) for one in endpoints)}
    assert set(EVENTS.filter(going_to(endpoints)).values_list("pk", flat=True)) == covered
    assert (
        set(EVENTS.exclude(going_to(endpoints)).values_list("pk", flat=True))
        == {e.pk for e in events} - covered
    )


@pytest.mark.django_db
def test_a_prefix_does_not_fold_case() -> None:
    """SQLite's LIKE does: a pause of the prefix Ops stopped ops@example.com."""
    factories.pending(channel="Email", recipient="ops@example.com")
    stopped = factories.pending(channel="email", recipient="Ops@example.com")
    pause = Endpoint("email paused", "Email", "Ops")
    assert EVENTS.get(going_to([pause])).pk == stopped.pk


@pytest.mark.django_db
def test_thousands_of_endpoints_are_one_condition() -> None:
    held = [Endpoint(f"h{n}", "Webhook", f"https://h{n}.example/") for n in range(3000)]
    doors = [Endpoint(f"d{n}", "Webhook", f"https://d.example/{n}", exact=True) for n in range(3000)]
    paused = [Endpoint(f"p{n}", "Webhook", f"https://p.example/{n}") for n in range(50)]
    factories.pending(channel="Webhook", recipient="https://h2999.example/x")
    factories.pending(channel="Webhook", recipient="https://d.example/2999")
    factories.pending(channel="Webhook", recipient="https://p.example/49/x")
    free = factories.pending(channel="Webhook", recipient="https://open.example/x")
    assert EVENTS.exclude(going_to([*held, *doors, *paused])).get().pk == free.pk
