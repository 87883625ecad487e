"""The same words mean the same rows on every surface: the admin, REST, the command line and MCP."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from notifications import mcp
from notifications.admin.list_filters import FILTERS
from notifications.api.models import ApiToken
from notifications.management.arguments import FILTERS as OPTIONS
from notifications.models import BulkOperation, NotificationEvent, Outage, Requeue
from notifications.operations import filters
from notifications.operations.filters import READERS, Filters, Meaningless, matching, of_query, parse
from tests import factories
from tests.factories import ago

pytestmark = pytest.mark.django_db

SINCE = ago(hours=2)
Ids = set[str]


@pytest.fixture
def outage() -> Outage:
    made: Outage = Outage.objects.create(
        endpoint="slack",
        channel="Slack",
        since=ago(hours=3),
        ended_at=ago(minutes=30),
        died=1,
        error="HTTP 503",
        reason="server",
    )
    return made


@pytest.fixture(autouse=True)
def rows(outage: Outage) -> dict[str, NotificationEvent]:
    """Of everything some: the filters tell them apart by each of what they know."""
    of_slack = {"channel": "slack", "recipient": "#pki", "created_at": ago(days=2)}
    made = {
        "victim": factories.dead(id="victim", last_error="HTTP 503: request 17 failed", **of_slack),
        "old death": factories.dead(id="old-death", last_error="HTTP 503: request 4 was lost", **of_slack),
        "young": factories.dead(id="young", channel="Slack", type="Revocation", created_at=ago(hours=1)),
        "from certctl": factories.stranded(id="stranded", error="http 503: Request 5 failed"),
        "retrying": factories.failed(id="retrying", certificate_id="mc-2", message="the victim of mc-2"),
        "pending": factories.pending(id="pending", certificate_id="mc-9", recipient="pki"),
        "sent": factories.sent(id="sent", channel="SLACK", message='say "mc 2" twice'),
        "read": factories.read(id="read", recipient="100%_sure"),
        "closed": factories.dead(id="closed", created_at=ago(days=3), message="closed"),
    }
    closing = BulkOperation.objects.create(kind="dismiss", by="ada", via="cli", requested=1, started_at=ago())
    NotificationEvent.objects.filter(pk="closed").dismiss(by="ada", operation=closing)
    factories.attempt(made["victim"], started_at=ago(hours=1))
    factories.attempt(made["old death"], started_at=ago(days=1))
    return made


CASES: list[tuple[str, str, Ids]] = [
    ("status", "dead", {"victim", "old-death", "young"}),
    ("status", "failed", {"stranded", "retrying"}),
    ("status", "retrying", {"retrying"}),
    ("status", "stranded", {"stranded"}),
    ("status", "read", {"read", "closed"}),
    ("status", "dismissed", {"closed"}),
    ("status", "seen", {"read"}),
    ("channel", "SLACK", {"victim", "old-death", "young", "sent"}),
    ("type", "Revocation", {"young"}),
    ("type", "revocation", set()),
    ("certificate_id", "mc-2", {"retrying"}),
    ("recipient", "#pki", {"victim", "old-death"}),
    ("search", "victim", {"victim"}),  # an id
    ("search", "mc-9", {"pending"}),  # a certificate
    ("search", " pki ", {"pending"}),  # a recipient, and nobody whose name has it in it
    ("search", "PKI slack", set()),  # the channel is not searched
    ("search", "HTTP request", {"victim", "old-death", "stranded"}),
    ("search", '"mc 2"', {"sent"}),
    ("search", "100%_", {"read"}),
    ("error", "request 17", {"victim"}),
    ("error", "FAILED", {"victim", "stranded"}),
    ("error", "17 request", set()),
    ("alike", "HTTP 503: request … failed", {"victim"}),
    ("alike", "HTTP 503: request …", set()),
    ("alike", "(no error)", {"pending", "sent", "read"}),
    ("since", "2 HOURS AGO", {"young", "retrying", "stranded", "pending", "sent", "read"}),
    ("until", "2 HOURS AGO", {"victim", "old-death", "closed"}),
    ("dead_since", "2 HOURS AGO", {"victim", "young"}),
    ("outage", "THE OUTAGE", {"victim"}),
    ("outage", "999999999", set()),
    ("operation", "THE DISMISSAL", {"closed"}),
    ("operation", "999999999", set()),
]


@pytest.fixture
def given(name: str, value: str, outage: Outage, rows: object) -> dict[str, str]:
    """A case's filter, with what was not known when it was written."""
    known = {"THE OUTAGE": str(outage.pk), "2 HOURS AGO": SINCE.isoformat()}
    if value == "THE DISMISSAL":
        known[value] = str(BulkOperation.objects.get().pk)
    return {name: known.get(value, value)}


def by_admin(given: dict[str, str]) -> Ids:
    client = Client()
    client.force_login(User.objects.create_superuser("admin"))
    spelled = {{"search": "q"}.get(name, name): value for name, value in given.items()}
    page = client.get("/admin/notifications/notificationevent/?" + urlencode(spelled))
    return {event.pk for event in page.context["cl"].result_list}


def by_rest(given: dict[str, str]) -> Ids:
    client = APIClient()
    secret = ApiToken.objects.issue(User.objects.create_superuser("rest"), "test")[1]
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
    page = client.get("/api/v1/notifications", given).json()
    return {event["id"] for event in page["data"]}


def by_command_line(given: dict[str, str]) -> Ids:
    out = io.StringIO()
    spelled = {name.removesuffix("_id").replace("_", "-"): value for name, value in given.items()}
    options = [word for name, value in spelled.items() for word in (f"--{name}", value)]
    call_command("notifications", "list", *options, "--json", stdout=out)
    return {event["id"] for event in json.loads(out.getvalue())}


def by_mcp(given: dict[str, str]) -> Ids:
    """It has the status only."""
    page = mcp.certctl_list_notifications.__wrapped__(**given)  # type: ignore[attr-defined]
    return {event.id for event in page.data}


SURFACES: list[Callable[[dict[str, str]], Ids]] = [by_admin, by_rest, by_command_line, by_mcp]


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize(("name", "value", "wanted"), CASES)
def test_a_filter_means_the_same_everywhere(
    surface: Callable[[dict[str, str]], Ids], given: dict[str, str], name: str, wanted: Ids
) -> None:
    if surface is by_mcp and name != "status":
        chosen = parse(given, timezone.now())  # what the tool would ask
        assert {event.pk for event in matching(chosen)} == wanted
        return
    assert surface(given) == wanted


@pytest.mark.parametrize("surface", SURFACES[:3])
def test_filters_narrow_together(surface: Callable[[dict[str, str]], Ids], outage: Outage) -> None:
    given = {"status": "dead", "channel": "slack", "error": "http 503", "until": SINCE.isoformat()}
    assert surface(given) == {"victim", "old-death"}
    assert matching(parse(given, timezone.now())).count() == 2


def requeue_by_admin(given: dict[str, str]) -> None:
    client = Client()
    client.force_login(User.objects.create_superuser("ada"))
    answer = {"action": "requeue_selected", "select_across": "1", "_selected_action": "-", "confirm": "1"}
    client.post("/admin/notifications/notificationevent/?" + urlencode(given), answer)


def requeue_by_rest(given: dict[str, str]) -> None:
    client = APIClient()
    secret = ApiToken.objects.issue(User.objects.create_superuser("ada"), "test")[1]
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
    answer = client.post("/api/v1/notifications/requeue", given, format="json")
    assert answer.json() == {"requeued": 2, "skipped": 0}


def requeue_by_command_line(given: dict[str, str]) -> None:
    options = [word for name, value in given.items() for word in (f"--{name}", value) if name != "status"]
    call_command("notifications", "requeue", *options, "--yes", stdout=io.StringIO())


@pytest.mark.parametrize(
    ("change", "via"),
    [(requeue_by_admin, "admin"), (requeue_by_rest, "api"), (requeue_by_command_line, "cli")],
)
def test_what_is_listed_is_what_is_requeued_as_one_operation(
    change: Callable[[dict[str, str]], None], via: str
) -> None:
    given = {"status": "dead", "channel": "SLACK", "error": "http 503", "until": SINCE.isoformat()}
    change(given)
    operation = BulkOperation.objects.get(kind="requeue")
    assert (operation.via, operation.changed, operation.ended_at is None) == (via, 2, False)
    requeued = Requeue.objects.values_list("notification_id", "operation_id")
    assert set(requeued) == {("victim", operation.pk), ("old-death", operation.pk)}
    assert of_query(operation.filters, timezone.now()) == parse(given, timezone.now())


@pytest.mark.parametrize(("name", "value", "wanted"), CASES)
def test_an_operation_remembers_what_was_meant(given: dict[str, str], wanted: Ids) -> None:
    now = timezone.now()
    chosen = parse(given, now)
    assert of_query(chosen.query, now) == chosen
    assert {event.pk for event in matching(of_query(chosen.query, now))} == wanted


def test_every_filter_is_in_the_cases_and_on_every_surface() -> None:
    # A selection, the admin's way to say `since`, and what operations ask of each other.
    own = {"ids", "age", "redriven", "left_by"}
    asked = set(READERS) - own
    assert {name for name, *_ in CASES} == asked
    orders = {"groups"}  # no filter, though in the address among them
    assert {spec.parameter_name for spec in FILTERS} | {"search"} == set(READERS) - {"ids"} | orders
    spelled = {filters.SPELLINGS.get(name, name) for name in OPTIONS}
    assert spelled | {"status"} == asked


def test_a_named_age_is_a_time_and_the_narrower_of_two() -> None:
    now, hour = timezone.now(), ago(hours=1)
    assert parse({"age": "24h", "since": hour}, now).since == hour
    week_old = parse({"age": "over7d", "until": hour}, now).until
    assert week_old is not None
    assert (now - week_old).days == 7


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("status", "Dead"),
        ("age", "2h"),
        ("since", "soon"),
        ("until", "2026-13-01T00:00"),
        ("since", "9999-12-31T23:59:59-23:59"),
        ("outage", "x"),
        ("outage", "٣"),
        ("redriven", "yes"),
        ("left_by", "3,"),
        ("channel", "a\x00"),
        ("certificate", "half of a character"),
        ("q", "\x00"),
    ],
)
def test_what_a_filter_does_not_know_is_named(name: str, value: str) -> None:
    value = value.replace("half of a character", "\ud800")
    with pytest.raises(Meaningless) as refused:
        parse({name: value}, timezone.now())
    assert refused.value.name == name


def test_what_is_empty_or_not_a_filter_does_not_narrow() -> None:
    assert of_query("status=&q=&o=6&p=3&channel=", timezone.now()) == Filters()
    assert matching(Filters()).count() == NotificationEvent.objects.count()


def test_a_time_without_a_zone_is_the_sites(settings: Any) -> None:
    settings.TIME_ZONE = "America/Chicago"
    parsed = parse({"since": "2026-11-24T08:00"}, timezone.now()).since
    assert isinstance(parsed, datetime)
    assert timezone.is_aware(parsed)


def test_the_command_line_names_a_bad_filter() -> None:
    with pytest.raises(CommandError, match="--outage: 'x' is not a number") as refused:
        call_command("notifications", "list", "--outage", "x")
    assert refused.value.returncode == 2
