"""What each call answers, and what it says of a call that is wrong."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import OperationalError
from django.test import Client
from rest_framework.test import APIClient

from notifications.models import Escalation, NotificationEvent, Requeue
from tests import factories
from tests.api.support import ALERT, SLACK, client_of, faults, make_user
from tests.fixtures import Configure

LIST = "/api/v1/notifications"
BULK = "/api/v1/notifications/requeue"
SHAPE = [
    "id", "type", "certificate_id", "channel", "recipient", "message", "sent_at", "status", "error",
    "retry_count", "next_retry_at", "last_error", "created_at", "not_after", "dismissed", "withdrawn",
]  # fmt: skip


def post(api: APIClient, path: str, body: Any = None) -> Any:
    return api.post(path, body, format="json")


def ids(response: Any) -> list[str]:
    assert response.status_code == 200, response.content
    return [event["id"] for event in response.json()["data"]]


# --- Listing -------------------------------------------------------------------------------------


def test_an_event_has_just_the_fields_of_the_contract_and_utc_times(api: APIClient) -> None:
    moment = datetime(2026, 11, 23, 8, 15, tzinfo=UTC)
    factories.dead(id="n1", created_at=moment, next_retry_at=None)
    found = api.get(LIST).json()
    assert list(found) == ["data", "total", "page", "per_page"]
    assert list(found["data"][0]) == SHAPE
    assert found["data"][0]["created_at"] == "2026-11-23T08:15:00Z"
    assert (found["total"], found["page"], found["per_page"]) == (1, 1, 50)


def test_times_are_utc_whatever_the_site_says(api: APIClient, settings: Any) -> None:
    settings.TIME_ZONE = "America/Chicago"
    factories.pending(created_at=datetime(2026, 11, 23, 8, 15, tzinfo=UTC))
    assert api.get(LIST).json()["data"][0]["created_at"] == "2026-11-23T08:15:00Z"


def test_newest_first_in_pages_and_the_total_counts_all_matches(api: APIClient) -> None:
    for age in range(5):
        factories.dead(id=f"d{age}", created_at=factories.ago(minutes=age))
    factories.sent(id="s", created_at=factories.ago(minutes=9))
    assert ids(api.get(LIST)) == ["d0", "d1", "d2", "d3", "d4", "s"]
    second = api.get(f"{LIST}?page=2&per_page=2&status=dead")
    assert ids(second) == ["d2", "d3"]
    assert second.json()["total"] == 5
    past = api.get(f"{LIST}?page=99&per_page=2")
    assert (ids(past), past.json()["total"]) == ([], 6)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("status=dead", ["a"]),
        ("type=expiration_warning", ["b"]),
        ("channel=EMAIL", ["b", "a"]),
        ("certificate_id=mc-2", ["b"]),
        ("search=ops 503", ["a"]),
        ("search=a", ["a"]),
        ("search=OPS", ["a"]),
        ("search=50%25", []),
        ("status=&type=&channel=&certificate_id=&search=&page=1&per_page=50", ["b", "a"]),
        ("status=dead&channel=slack", []),
    ],
)
def test_filters(api: APIClient, query: str, expected: list[str]) -> None:
    factories.dead(id="a", channel="email", recipient="ops@x.example", created_at=factories.ago(minutes=1))
    factories.sent(
        id="b", channel="Email", recipient="qa@x.example", type="expiration_warning", certificate_id="mc-2"
    )
    assert ids(api.get(f"{LIST}?{query}")) == expected


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("page=0", "page"),
        ("page=-1", "page"),
        ("page=x", "page"),
        ("page=", "page"),
        ("page=99999999999999999999", "page"),
        (f"page={'9' * 5000}", "page"),
        ("per_page=0", "per_page"),
        ("per_page=501", "per_page"),
        ("per_page=1e3", "per_page"),
        ("status=lost", "status"),
        ("status=Dead", "status"),
        ("search=%00", "search"),
        ("channel=a%00b", "channel"),
        ("type=" + "x" * 256, "type"),
        ("certificate_id=" + "x" * 501, "certificate_id"),
        ("statu=dead", "statu"),
        ("format=json", "format"),
        ("status=dead&status=sent", "status"),
        ("cursor=nonsense", "cursor"),
        ("cursor=%00", "cursor"),
        ("cursor=99999999999999999999.n", "cursor"),
        ("cursor=1.", "cursor"),
        ("cursor=1.a%00", "cursor"),
    ],
)
def test_a_bad_parameter_is_named(api: APIClient, query: str, name: str) -> None:
    assert list(faults(api.get(f"{LIST}?{query}"))) == [name]


def test_a_cursor_meets_each_notification_once_also_when_times_are_equal(api: APIClient) -> None:
    moment = factories.ago(minutes=1)
    made = [factories.dead(id=f"n{n}", created_at=moment - timedelta(seconds=n // 3)).pk for n in range(10)]
    met: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        answer = api.get(LIST, {"cursor": cursor, "per_page": 3, "status": "dead"})
        met += ids(answer)
        cursor = answer.json()["next_cursor"]
        factories.dead()  # newer ones do not disturb
    assert sorted(met) == made
    assert len(met) == 10
    assert "total" not in answer.json()


@pytest.mark.parametrize("query", ["", "?cursor=", "?page=2&per_page=3"])
def test_a_list_is_a_bounded_number_of_queries(
    api: APIClient, query: str, django_assert_max_num_queries: Any
) -> None:
    for _ in range(20):
        factories.attempt(factories.failed())
    with django_assert_max_num_queries(6):
        assert api.get(LIST + query).status_code == 200


# --- One -----------------------------------------------------------------------------------------


def test_detail_has_the_attempts_in_order(api: APIClient, django_assert_max_num_queries: Any) -> None:
    event = factories.dead(id="n1")
    for number in (1, 2, 3):
        factories.attempt(event, number=number, started_at=factories.ago(minutes=9 - number), status_code=503)
    with django_assert_max_num_queries(7):
        found = api.get(f"{LIST}/n1").json()
    assert list(found) == [*SHAPE, "attempts", "escalation_of", "escalated_to"]
    assert [attempt["number"] for attempt in found["attempts"]] == [1, 2, 3]
    assert found["attempts"][0]["started_at"].endswith("Z")
    assert found["attempts"][0]["status_code"] == 503


def test_detail_says_what_was_raised_in_its_place(api: APIClient) -> None:
    died, raised = factories.dead(id="died"), factories.pending(id="raised")
    Escalation.objects.create(notification=died, raised=raised, at=factories.ago(minutes=1))
    links = [
        (found["escalation_of"], found["escalated_to"])
        for found in (api.get(f"{LIST}/{pk}").json() for pk in ("died", "raised"))
    ]
    assert links == [(None, "raised"), ("died", None)]


@pytest.mark.parametrize("path", ["nope", "nope%00", "%F0%9F%98%80", "%ff", "x" * 3000, "..%2f", "'--"])
def test_an_unknown_id_is_404(api: APIClient, path: str) -> None:
    for response in (
        api.get(f"{LIST}/{path}"), post(api, f"{LIST}/{path}/read"), post(api, f"{LIST}/{path}/requeue")
    ):  # fmt: skip
        assert faults(response, 404) == {}
        assert response.json()["error"]["code"] == "not_found"


@pytest.mark.parametrize("word", ["read", "requeue", "restore"])
def test_an_id_may_end_in_a_verb(api: APIClient, word: str) -> None:
    event = factories.dead(id=f"odd/{word}")
    assert api.get(f"{LIST}/{event.pk}").json()["id"] == event.pk
    assert post(api, f"{LIST}/{event.pk}/requeue").json() == {"status": "requeued"}
    assert faults(api.get(f"{LIST}/{event.pk}/requeue"), 405) == {}


def test_mark_read(api: APIClient) -> None:
    events = factories.one_of_each()
    for status in ("sent", "dead"):
        answer = post(api, f"{LIST}/{events[status].pk}/read")
        assert (answer.status_code, answer.json()) == (200, {"status": "marked_as_read"})
    for status in ("pending", "failed", "read"):
        assert faults(post(api, f"{LIST}/{events[status].pk}/read"), 409) == {}
    left = NotificationEvent.objects.values_list("status", flat=True)
    assert sorted(left) == ["failed", "pending", "read", "read", "read"]


def test_requeue(api: APIClient) -> None:
    event = factories.dead()
    answer = post(api, f"{LIST}/{event.pk}/requeue")
    assert (answer.status_code, answer.json()) == (200, {"status": "requeued"})
    event.refresh_from_db()
    assert (event.status, event.retry_count, event.last_error) == ("pending", 0, None)
    record = Requeue.objects.get()
    assert (record.by, record.via, record.status) == ("operator", "api", "dead")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (factories.sent, "it was delivered"),
        (factories.read, "it is read"),
        (factories.pending, "the next sweep sends it"),
        (factories.leased, "an attempt is running"),
    ],
)
def test_a_refused_requeue_is_409_with_the_reason(api: APIClient, make: Any, reason: str) -> None:
    answer = post(api, f"{LIST}/{make().pk}/requeue")
    assert faults(answer, 409) == {}
    assert answer.json()["error"]["code"] == "refused"
    assert reason in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("get", f"{LIST}/n1/requeue"),
        ("get", f"{LIST}/n1/read"),
        ("get", BULK),
        ("put", f"{LIST}/n1"),
        ("post", f"{LIST}/n1"),
        ("delete", f"{LIST}/n1"),
        ("patch", LIST),
        ("options", LIST),
        ("trace", LIST),
        ("post", "/api/v1/stats/summary"),
    ],
)
def test_other_methods_are_405_and_change_nothing(api: APIClient, method: str, path: str) -> None:
    factories.dead(id="n1")
    response = getattr(api, method)(path)
    assert faults(response, 405) == {}
    assert response["Allow"]
    assert NotificationEvent.objects.get().status == "dead"


# --- Raising an alert ----------------------------------------------------------------------------


def test_creating(api: APIClient, django_assert_max_num_queries: Any, configure: Configure) -> None:
    configure(CHANNELS={"slack": SLACK})
    with django_assert_max_num_queries(6):
        answer = post(api, LIST, ALERT | {"certificate_id": "mc-1"})
    assert answer.status_code == 201
    assert list(answer.json()) == SHAPE
    stored = NotificationEvent.objects.get(pk=answer.json()["id"])
    assert (stored.status, stored.recipient, stored.certificate_id) == ("pending", "#pki", "mc-1")


def test_creating_warns_of_a_channel_that_nobody_serves(
    api: APIClient, caplog: pytest.LogCaptureFixture
) -> None:
    answer = post(api, LIST, ALERT | {"channel": "Pager"})
    assert answer.status_code == 201
    assert list(answer.json()) == [*SHAPE, "warnings"]
    assert answer.json()["warnings"] == ["The channel Pager has no notifier, so nothing may be delivered."]
    logged = [r for r in caplog.records if answer.json()["id"] in r.getMessage()]
    assert [r.levelname for r in logged] == ["WARNING"]


def test_creating_warns_of_a_recipient_that_nothing_can_be_sent_to(
    api: APIClient, configure: Configure
) -> None:
    email = "notifications.notifiers.email.EmailNotifier"
    configure(CHANNELS={"Email": {"NOTIFIER": email, "FROM_ADDRESS": "pki@example.com"}})
    mail = ALERT | {"channel": "email"}
    for recipient, warned in (("a@example.com; Ops <b@example.com>", False), ("a@example.com, b", True)):
        answer = post(api, LIST, mail | {"recipient": recipient})
        assert answer.status_code == 201
        assert ("warnings" in answer.json()) == warned
    assert answer.json()["warnings"] == [
        "The channel Email cannot deliver to this recipient: 'b' is not an e-mail address, "
        "so nothing may be delivered."
    ]


def test_what_was_not_delivered_is_listed_and_requeued(api: APIClient) -> None:
    one, other, _ = factories.not_delivered(), factories.not_delivered(), factories.sent(error="certctl's")
    found = api.get(LIST, {"status": "not_delivered"}).json()
    assert {event["id"] for event in found["data"]} == {one.pk, other.pk}
    assert post(api, f"{LIST}/{one.pk}/requeue").status_code == 200
    chosen = {"status": "not_delivered"}
    assert post(api, f"{LIST}/requeue", chosen | {"dry_run": True}).json() == {"requeued": 1, "skipped": 0}
    assert post(api, f"{LIST}/requeue", chosen).json() == {"requeued": 1, "skipped": 0}
    assert NotificationEvent.objects.pending().count() == 2


def test_the_same_dedup_key_answers_the_first_event(api: APIClient, configure: Configure) -> None:
    configure(CHANNELS={"slack": SLACK})
    first = post(api, LIST, ALERT | {"dedup_key": "k"})
    again = post(api, LIST, ALERT | {"dedup_key": "k", "message": "other"})
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    assert NotificationEvent.objects.count() == 1


def test_text_is_stored_as_it_came(api: APIClient) -> None:
    text = "  <script>\n\u2028 grüße 🔐 %s {}  "
    answer = post(api, LIST, ALERT | {"message": text})
    assert NotificationEvent.objects.get().message == answer.json()["message"] == text


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"type": None}, "type"),
        ({"channel": ""}, "channel"),
        ({"recipient": "x" * 256}, "recipient"),
        ({"recipient": "a\x00b"}, "recipient"),
        ({"message": "a\x00b"}, "message"),
        ({"message": 5}, "message"),
        ({"message": ["a"]}, "message"),
        ({"message": True}, "message"),
        ({"dedup_key": "x" * 501}, "dedup_key"),
        ({"dedup_key": "\x00"}, "dedup_key"),
        ({"certificate_id": "x" * 501}, "certificate_id"),
        ({"certificate_id": {}}, "certificate_id"),
        ({"status": "sent"}, "status"),
        ({"id": "mine"}, "id"),
        ({"retry_count": 3}, "retry_count"),
    ],
)
def test_a_bad_field_is_named(api: APIClient, change: dict[str, Any], name: str) -> None:
    assert list(faults(post(api, LIST, ALERT | change))) == [name]
    assert not NotificationEvent.objects.exists()


def test_half_a_surrogate_pair_is_named(api: APIClient) -> None:
    body = json.dumps(ALERT | {"message": "\ud800"}).encode()
    assert list(faults(api.generic("POST", LIST, body, content_type="application/json"))) == ["message"]


@pytest.mark.parametrize("name", ["type", "channel", "recipient", "message"])
def test_a_missing_field_is_named(api: APIClient, name: str) -> None:
    assert faults(post(api, LIST, {k: v for k, v in ALERT.items() if k != name})) == {
        name: ["This field is required."]
    }


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b"\xff\xfe",
        b'{"a": NaN}',
        b"[" * 200_000,
        b'{"a":' * 50_000,
        b"9" * 9000,
    ],
)
def test_a_malformed_body_is_400(api: APIClient, body: bytes) -> None:
    for path in (LIST, BULK):
        faults(api.generic("POST", path, body, content_type="application/json"))


def test_a_body_in_another_format_is_415(api: APIClient) -> None:
    for content_type in ("text/plain", "multipart/form-data; boundary=x", "application/xml"):
        faults(api.generic("POST", LIST, b"type=a", content_type=content_type), 415)


def test_a_body_that_is_too_large_is_413(api: APIClient) -> None:
    body = json.dumps(ALERT | {"message": "x" * 3_000_000})
    faults(api.generic("POST", LIST, body.encode(), content_type="application/json"), 413)
    assert not NotificationEvent.objects.exists()


@pytest.mark.parametrize("path", [LIST, BULK, f"{LIST}/n1/requeue"])
def test_a_body_in_chunks_is_411_and_not_called_empty(api: APIClient, path: str) -> None:
    factories.dead(id="n1")
    response = api.post(path, ALERT, format="json", headers={"Transfer-Encoding": "chunked"})
    assert faults(response, 411) == {}
    assert NotificationEvent.objects.get().status == "dead"


def test_a_query_string_where_none_belongs_is_named(api: APIClient) -> None:
    factories.dead(id="n1")
    assert list(faults(post(api, f"{LIST}/n1/requeue?dry_run=1"))) == ["dry_run"]
    assert NotificationEvent.objects.get().status == "dead"


# --- Requeueing many -----------------------------------------------------------------------------


def test_requeue_by_filter_skips_what_the_rules_refuse(api: APIClient) -> None:
    for status_row in factories.one_of_each(channel="Slack").values():
        assert status_row
    factories.leased(channel="Slack")
    other = factories.dead(channel="Email")
    answer = {"requeued": 2, "skipped": 4}
    assert post(api, BULK, {"channel": "slack", "dry_run": True}).json() == answer
    assert not Requeue.objects.exists()
    assert post(api, BULK, {"channel": "slack"}).json() == answer
    other.refresh_from_db()
    assert other.status == "dead"
    assert Requeue.objects.filter(by="operator", via="api").count() == 2


def test_requeue_by_error_and_status(api: APIClient) -> None:
    factories.dead(last_error="HTTP 503: down")
    factories.dead(last_error="HTTP 401: who?")
    assert post(api, BULK, {"error": "http 503", "status": "dead"}).json() == {"requeued": 1, "skipped": 0}


@pytest.mark.parametrize(
    "body", [{}, {"dry_run": False}, {"dry_run": True}, {"all": False}, {"status": "", "search": ""}]
)
def test_an_empty_filter_requeues_nothing(api: APIClient, body: dict[str, Any]) -> None:
    factories.dead()
    assert list(faults(post(api, BULK, body))) == ["all"]
    assert NotificationEvent.objects.get().status == "dead"


def test_all_of_them_when_it_is_said(api: APIClient, django_assert_max_num_queries: Any) -> None:
    for _ in range(90):
        factories.dead()
    with django_assert_max_num_queries(39):
        assert post(api, BULK, {"all": True}).json() == {"requeued": 90, "skipped": 0}


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({"all": "yes"}, "all"),
        ({"all": 1}, "all"),
        ({"status": "dead", "dry_run": "true"}, "dry_run"),
        ({"status": "lost"}, "status"),
        ({"status": "dead", "chanel": "Slack"}, "chanel"),
        ({"channel": None}, "channel"),
        ({"search": "a\x00"}, "search"),
    ],
)
def test_a_bad_filter_is_named(api: APIClient, body: dict[str, Any], name: str) -> None:
    factories.dead()
    assert list(faults(post(api, BULK, body))) == [name]
    assert NotificationEvent.objects.get().status == "dead"


# --- Errors of all kinds -------------------------------------------------------------------------


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize(
    "path", ["/api/v1/", "/api/v1/nothing", "/api/v2/notifications", f"{LIST}/", "/api/"]
)
def test_an_unknown_path_is_404_in_json(client: Client, settings: Any, debug: bool, path: str) -> None:
    settings.DEBUG = debug
    for method in ("get", "post", "delete"):
        faults(getattr(client, method)(path), 404)


@pytest.mark.parametrize("debug", [False, True])
def test_a_bug_is_a_bare_500_and_the_log_has_the_rest(
    api: APIClient, settings: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any, debug: bool
) -> None:
    settings.DEBUG = debug
    monkeypatch.setattr("notifications.api.views.matching", lambda _: 1 / 0)
    response = api.get(LIST)
    assert faults(response, 500) == {}
    assert b"division" not in response.content
    assert "ZeroDivisionError" in caplog.text


def test_a_database_that_is_away_is_503_without_its_words(
    api: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_: Any) -> None:
        raise OperationalError('connection to "db.example.com" failed for user "certctl": SELECT secret')

    monkeypatch.setattr("notifications.api.views.matching", away)
    response = api.get(LIST)
    assert faults(response, 503) == {}
    assert b"example.com" not in response.content


def test_a_bad_host_is_400_in_json(client: Client) -> None:
    faults(client.get(LIST, headers={"Host": "evil.example"}))


def test_who_asks_for_html_gets_json_all_the_same(db: None) -> None:
    client = client_of(make_user("browser", "viewer"))
    for accept in ("text/html", "application/xml", "nonsense"):
        response = client.get(LIST, headers={"Accept": accept})
        assert (response.status_code, response["Content-Type"]) == (200, "application/json")
