"""Who may do what: every call, for every kind of caller."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.test import APIClient, APIRequestFactory

from notifications.api.access import FailedTokens, StaffSession, Throttle
from notifications.api.models import ApiToken
from notifications.models import NotificationEvent
from tests import factories
from tests.api.support import PERMISSIONS, client_of, client_with, make_user

ALERT = {"type": "ExpirationWarning", "channel": "Slack", "recipient": "#pki", "message": "7 days"}
# call: (method, path, body, the role that may, its success)
CALLS: dict[str, tuple[str, str, Any, str, int]] = {
    "list": ("get", "/notifications", None, "viewer", 200),
    "create": ("post", "/notifications", ALERT, "adder", 201),
    "detail": ("get", "/notifications/n1", None, "viewer", 200),
    "read": ("post", "/notifications/n1/read", None, "changer", 200),
    "requeue": ("post", "/notifications/n1/requeue", None, "requeuer", 200),
    "requeue many": ("post", "/notifications/requeue", {"status": "dead"}, "requeuer", 200),
    "summary": ("get", "/stats/summary", None, "viewer", 200),
}
CALLERS = ("nobody", *PERMISSIONS, "superuser")


def call(client: APIClient | Client, name: str) -> Any:
    method, path, body, _, _ = CALLS[name]
    options = {"data": body, "format": "json"} if isinstance(client, APIClient) else {}
    return getattr(client, method)(f"/api/v1{path}", **options)


def refused(response: Any, status: int, code: str) -> bool:
    error = response.json()["error"]
    return bool(response.status_code == status and error["code"] == code and error["message"])


@pytest.fixture(autouse=True)
def _one_dead(db: None) -> None:
    factories.dead(id="n1")


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("role", CALLERS)
def test_each_call_needs_its_own_permission(name: str, role: str) -> None:
    *_, allowed, success = CALLS[name]
    response = call(client_of(make_user("somebody", role)), name)
    if role in (allowed, "superuser"):
        assert response.status_code == success
    else:
        assert refused(response, 403, "permission_denied")
        assert f"notifications.{PERMISSIONS[allowed]}" in response.json()["error"]["message"]


@pytest.mark.parametrize("name", CALLS)
def test_without_a_token_each_call_is_401(name: str) -> None:
    response = call(client_with(None), name)
    assert refused(response, 401, "not_authenticated")
    assert response["WWW-Authenticate"] == "Bearer"
    assert NotificationEvent.objects.get(pk="n1").status == "dead"


def expired() -> str:
    token, secret = ApiToken.objects.issue(make_user("late", "superuser"), "test")
    ApiToken.objects.filter(pk=token.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    return secret


def revoked() -> str:
    token, secret = ApiToken.objects.issue(make_user("former", "superuser"), "test")
    token.delete()
    return secret


def of_inactive_user() -> str:
    user = make_user("left", "superuser")
    secret = ApiToken.objects.issue(user, "test")[1]
    user.is_active = False
    user.save()
    return secret


def cut_short() -> str:
    return ApiToken.objects.issue(make_user("sloppy", "superuser"), "test")[1][:-1]


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(
    "make", [expired, revoked, of_inactive_user, cut_short, lambda: "a b", lambda: "", lambda: "\xff\xfe"]
)
def test_a_token_that_does_not_count_is_401(name: str, make: Any) -> None:
    assert refused(call(client_with(make()), name), 401, "authentication_failed")


@pytest.mark.parametrize("make", [expired, revoked, of_inactive_user, cut_short])
def test_the_answer_does_not_tell_what_is_wrong_with_a_token(make: Any) -> None:
    error = call(client_with(make()), "list").json()["error"]
    assert error["message"] == "The token is unknown, has expired or was revoked."


def test_other_schemes_are_401() -> None:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION="Basic YTpi")
    assert refused(call(client, "list"), 401, "not_authenticated")


def test_a_token_is_kept_as_a_hash_only() -> None:
    token, secret = ApiToken.objects.issue(make_user("somebody"), "test")
    row = ApiToken.objects.filter(pk=token.pk).values().get()
    assert secret not in str(row)
    assert timedelta(days=89) < row["expires_at"] - timezone.now() < timedelta(days=91)


def test_a_staff_session_reads_and_changes_with_its_csrf_token() -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(make_user("staff", "viewer", "changer", is_staff=True))
    assert call(client, "list").status_code == 200
    assert refused(call(client, "read"), 403, "permission_denied")
    client.get("/admin/")
    client.cookies["csrftoken"] = "a" * 32
    path, headers = "/api/v1/notifications/n1/read", {"X-CSRFToken": "a" * 32}
    assert client.post(path, content_type="application/json", headers=headers).status_code == 200


def test_head_needs_what_get_needs() -> None:
    for role, status in (("viewer", 200), ("adder", 403)):
        client = client_of(make_user(role, role))
        assert client.head("/api/v1/notifications").status_code == status


def test_a_method_that_a_call_does_not_have_is_405_and_named() -> None:
    response = client_of(make_user("root", "superuser")).delete("/api/v1/notifications")
    assert refused(response, 405, "method_not_allowed")
    assert response.json()["error"]["message"] == 'Method "DELETE" not allowed.'


def test_without_djangos_sessions_nobody_is_logged_in() -> None:
    """A site may serve the API alone, with tokens."""
    assert StaffSession().authenticate(Request(APIRequestFactory().get("/"))) is None


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/api/v1/docs", "/api/v1/schema"])
def test_what_only_reads_answers_405_also_where_csrf_is_checked(path: str) -> None:
    client = Client(enforce_csrf_checks=True)
    for method in (client.post, client.put, client.delete):
        response = method(path)
        assert response.status_code == 405
        assert response["Allow"].startswith("GET, HEAD")
        assert b"<" not in response.content


def test_a_session_of_somebody_who_is_not_staff_is_401() -> None:
    client = Client()
    client.force_login(make_user("customer", "superuser"))
    assert refused(call(client, "list"), 401, "not_authenticated")


def test_too_many_requests_of_one_token_leave_the_others_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Throttle, "get_rate", lambda self: "2/min")
    busy, calm = client_of(make_user("busy", "viewer")), client_of(make_user("calm", "viewer"))
    assert [call(busy, "list").status_code for _ in range(3)] == [200, 200, 429]
    response = call(busy, "list")
    assert refused(response, 429, "throttled")
    assert 0 < int(response["Retry-After"]) <= 60
    assert call(calm, "list").status_code == 200


def test_each_token_of_a_user_has_a_count_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Throttle, "get_rate", lambda self: "1/min")
    user = make_user("somebody", "viewer")
    for name in ("one", "two"):
        client = client_with(ApiToken.objects.issue(user, name)[1])
        assert [call(client, "list").status_code for _ in range(2)] == [200, 429]


def test_the_sites_rate_counts_and_else_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for rates, expected in (({"notifications": "7/min"}, "7/min"), ({"other": "1/min"}, "1200/min")):
        monkeypatch.setattr(Throttle, "THROTTLE_RATES", rates)
        assert Throttle().get_rate() == expected


def test_a_known_key_tells_a_producer_nothing_but_the_id() -> None:
    factories.pending(id="n2", dedup_key="known", message="for the eyes of others")
    adder, viewer = client_of(make_user("a", "adder")), client_of(make_user("v", "adder", "viewer"))
    told = [
        one.post("/api/v1/notifications", ALERT | {"dedup_key": "known"}, format="json")
        for one in (adder, viewer)
    ]
    assert [one.status_code for one in told] == [200, 200]
    assert told[0].json() == {"id": "n2"}
    assert told[1].json()["message"] == "for the eyes of others"


@pytest.mark.parametrize("name", ["search", "error", "alike", "recipient"])
def test_who_may_not_view_cannot_find_out_by_requeueing(name: str) -> None:
    asked = {name: "x", "dry_run": True}
    requeuer, viewer = client_of(make_user("r", "requeuer")), client_of(make_user("v", "requeuer", "viewer"))
    answer = requeuer.post("/api/v1/notifications/requeue", asked, format="json")
    assert refused(answer, 403, "permission_denied")
    assert name in answer.json()["error"]["message"]
    assert viewer.post("/api/v1/notifications/requeue", asked, format="json").status_code == 200


def test_an_id_may_have_slashes() -> None:
    factories.dead(id="a/b")
    client = client_of(make_user("somebody", "superuser"))
    assert client.get("/api/v1/notifications/a/b").json()["id"] == "a/b"
    assert client.post("/api/v1/notifications/a/b/requeue").json() == {"status": "requeued"}


def test_tokens_can_be_guessed_only_so_often_and_a_good_one_works_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FailedTokens, "rate", "2/min")
    good = client_of(make_user("somebody", "viewer"))
    guesses = [call(client_with(f"certctl_{n}"), "list") for n in range(3)]
    assert [answer.status_code for answer in guesses] == [401, 401, 429]
    assert int(guesses[2]["Retry-After"]) > 0
    assert call(good, "list").status_code == 200
    elsewhere = client_with("certctl_3")
    elsewhere.defaults["REMOTE_ADDR"] = "192.0.2.7"
    assert call(elsewhere, "list").status_code == 401
