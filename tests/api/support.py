"""Users, their tokens, and the clients that send them."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import Permission, User
from rest_framework.test import APIClient

from notifications.api.models import ApiToken

PERMISSIONS = {
    "viewer": "view_notificationevent",
    "adder": "add_notificationevent",
    "changer": "change_notificationevent",
    "requeuer": "requeue_notificationevent",
    "certificates": "view_certificate",
    "watches": "view_watch",
}


def make_user(name: str, *roles: str, **fields: Any) -> User:
    """A user with the permissions of these roles; "superuser" is one too."""
    user = User.objects.create_user(name, is_superuser="superuser" in roles, **fields)
    codenames = [PERMISSIONS[role] for role in roles if role in PERMISSIONS]
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    return user


def client_with(secret: str | None) -> APIClient:
    """A client that checks CSRF, as a browser's requests are checked."""
    client = APIClient(enforce_csrf_checks=True, raise_request_exception=False)
    if secret is not None:
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
    return client


def client_of(user: User) -> APIClient:
    return client_with(ApiToken.objects.issue(user, "test")[1])


SLACK = {
    "NOTIFIER": "notifications.notifiers.slack.SlackNotifier",
    "URL": "https://hooks.slack.com/services/T/B/x",
}
ALERT = {"type": "ExpirationWarning", "channel": "Slack", "recipient": "#pki", "message": "7 days"}


def faults(response: Any, status: int = 400) -> dict[str, list[str]]:
    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/json"
    error = response.json()["error"]
    assert sorted(error) == ["code", "fields", "message"]
    assert all(name in error["message"] for name in error["fields"])
    return dict(error["fields"])
