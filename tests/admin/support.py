"""The people who meet the operator's page, and what they do there."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from io import StringIO
from typing import Any

from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from notifications.models import NotificationEvent

PERMISSIONS: dict[str, tuple[str, ...]] = {
    "nobody": (),
    "viewer": ("view",),
    "reader": ("view", "change"),
    "requeuer": ("view", "requeue"),
}
LIST = "/admin/notifications/notificationevent/"
As = Callable[[str], Client]
PEOPLE = ("anonymous", "nobody", "viewer", "reader", "requeuer", "superuser")
LOGIN, SEEN, DONE, REFUSED = "to the login page", 200, 302, 403


def url(view: str, event: NotificationEvent) -> str:
    return reverse(f"admin:notifications_notificationevent_{view}", args=[event.pk])


def person(name: str) -> User:
    """A staff user with the permissions of PERMISSIONS, or the superuser."""
    if name == "superuser":
        return User.objects.create_superuser(name)
    user = User.objects.create_user(name, is_staff=True)
    wanted = [f"{verb}_notificationevent" for verb in PERMISSIONS[name]]
    user.user_permissions.set(Permission.objects.filter(codename__in=wanted))
    return user


def act(
    client: Client,
    action: str,
    *events: NotificationEvent,
    query: str = "",
    follow: bool = False,
    **data: Any,
) -> Any:
    """Run a list action on a selection, as the list's form and the page that asks do."""
    ticked = {"action": action, "_selected_action": [event.pk for event in events], **data}
    return client.post(LIST + query, ticked, follow=follow)


def said(response: Any) -> list[str]:
    """What the next page tells the user, but for the link to what became of it."""
    became = re.compile(" <a [^>]*>What became of them[^<]*</a>")
    return [became.sub("", str(message)) for message in response.context["messages"]]


def text(response: Any) -> str:
    """What a page says, in one line."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", response.content.decode())).split())


def typed(*arguments: str) -> str:
    out = StringIO()
    call_command("notifications", *arguments, "--no-color", stdout=out)
    return out.getvalue()


def answer(client: Client, method: str, address: str, data: dict[str, str]) -> str | int:
    response = client.post(address, data) if method == "POST" else client.generic(method, address)
    redirected = response.headers.get("Location", "").startswith("/admin/login/")
    return LOGIN if redirected else response.status_code
