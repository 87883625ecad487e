"""Tokens are issued, shown once, listed and revoked, by the command and in the admin."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from notifications.api.models import ApiToken
from tests.api.support import client_of, client_with, make_user

pytestmark = pytest.mark.django_db
LIST = "/api/v1/notifications"
ADD = "/admin/notifications_api/apitoken/add/"


def works(secret: str) -> bool:
    return bool(client_with(secret).get(LIST).status_code == 200)


def test_the_command_issues_lists_and_revokes(capsys: pytest.CaptureFixture[str]) -> None:
    make_user("hook", "viewer")
    call_command("api_tokens", "create", "hook", "--name", "web-1", "--expires", "12h")
    secret = capsys.readouterr().out.strip()
    assert re.fullmatch(r"certctl_[0-9a-f]{64}", secret)
    assert works(secret)
    left = ApiToken.objects.get().expires_at - timezone.now()
    assert timedelta(hours=11) < left <= timedelta(hours=12)

    call_command("api_tokens", "list", "--json")
    said = capsys.readouterr().out
    assert json.loads(said)[0] | {"user": "hook", "name": "web-1", "expired": False} == json.loads(said)[0]
    call_command("api_tokens", "list", "hook")
    assert secret not in said + capsys.readouterr().out

    call_command("api_tokens", "revoke", "hook", "--name", "web-1")
    assert not works(secret)


def test_one_command_makes_a_service_account_that_may_do_so_much_and_no_more(
    capsys: pytest.CaptureFixture[str],
) -> None:
    call_command("api_tokens", "create", "certbot", "--name", "web-1", "--allow", "create")
    client = client_with(capsys.readouterr().out.strip())
    alert = {"type": "Revocation", "channel": "Webhook", "recipient": "ops", "message": "revoked"}
    assert client.post(LIST, json.dumps(alert), content_type="application/json").status_code == 201
    assert client.get(LIST).status_code == 403
    account = ApiToken.objects.get().user
    assert [account.has_usable_password(), account.is_staff, account.is_superuser] == [False] * 3
    call_command("api_tokens", "create", "watcher", "--name", "web-1", "--allow", "view,requeue")
    client = client_with(capsys.readouterr().out.strip())
    assert client.get(LIST).status_code == 200
    assert client.post(LIST, json.dumps(alert), content_type="application/json").status_code == 403


@pytest.mark.parametrize(
    "arguments",
    [
        ("create", "nobody", "--name", "x"),
        ("create", "hook", "--name", "taken"),
        ("create", "hook", "--name", "x" * 101),
        ("create", "hook", "--name", ""),
        ("create", "hook", "--name", "x", "--expires", "0d"),
        ("create", "hook", "--name", "x", "--expires", "99999d"),
        ("create", "hook", "--name", "x", "--expires", "soon"),
        ("create", "hook", "--name", "x", "--allow", "view"),
        ("create", "robot", "--name", "x", "--allow", "view,delete"),
        ("create", "robot", "--name", "x" * 101, "--allow", "view"),
        ("create", "hook"),
        ("revoke", "hook", "--name", "unknown"),
        ("revoke", "hook"),
        ("list", "nobody"),
        (),
    ],
)
def test_the_command_refuses(arguments: tuple[str, ...]) -> None:
    ApiToken.objects.issue(make_user("hook"), "taken")
    with pytest.raises(CommandError):
        call_command("api_tokens", *arguments)
    assert ApiToken.objects.count() == 1


def test_revoking_all_leaves_other_users_alone() -> None:
    user, other = make_user("hook", "viewer"), make_user("other", "viewer")
    secrets = [ApiToken.objects.issue(owner, name)[1] for owner in (user, other) for name in "ab"]
    call_command("api_tokens", "revoke", "hook", "--all")
    assert [works(secret) for secret in secrets] == [False, False, True, True]


def form(user: Any, **fields: Any) -> dict[str, Any]:
    defaults = {"user": user.pk, "name": "laptop", "expires_at_0": "2099-01-01", "expires_at_1": "00:00:00"}
    return defaults | fields


def staff(client: Client, name: str, **fields: Any) -> Any:
    from django.contrib.auth.models import Permission

    user = make_user(name, is_staff=True, **fields)
    user.user_permissions.add(*Permission.objects.filter(content_type__app_label="notifications_api"))
    client.force_login(user)
    return user


def test_the_admin_shows_a_new_secret_once(client: Client) -> None:
    user = make_user("boss", "superuser", is_staff=True)
    client.force_login(user)
    assert client.get(ADD).status_code == 200
    page = client.post(ADD, form(user), follow=True).content.decode()
    found = re.search(r"certctl_[0-9a-f]{64}", page)
    assert found
    assert works(found[0])
    again = client.get("/admin/notifications_api/apitoken/").content.decode()
    assert "laptop" in again
    assert found[0] not in again


@pytest.mark.parametrize("fields", [{"expires_at_0": "2020-01-01"}, {"expires_at_0": ""}, {"name": ""}])
def test_the_admin_refuses(client: Client, fields: dict[str, str]) -> None:
    assert client.post(ADD, form(staff(client, "ann"), **fields)).status_code == 200
    assert not ApiToken.objects.exists()


def test_who_is_no_superuser_handles_own_tokens_only(client: Client) -> None:
    boss = make_user("boss", "superuser")
    token, secret = ApiToken.objects.issue(boss, "boss-token")
    ann = staff(client, "ann")
    client.post(ADD, form(boss))
    assert ApiToken.objects.count() == 1
    assert "boss-token" not in client.get("/admin/notifications_api/apitoken/").content.decode()
    client.post(f"/admin/notifications_api/apitoken/{token.pk}/delete/", {"post": "yes"})
    assert works(secret)
    client.post(ADD, form(ann))
    mine = ApiToken.objects.get(user=ann)
    client.post(f"/admin/notifications_api/apitoken/{mine.pk}/delete/", {"post": "yes"})
    assert not ApiToken.objects.filter(user=ann).exists()


def test_deleting_the_user_ends_the_token() -> None:
    user = make_user("hook", "viewer")
    client = client_of(user)
    user.delete()
    assert client.get(LIST).status_code == 401
