"""How a test makes a notifier of each channel, points it at a server, and sees what became of a message."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import django

from notifications.checks import check_channels
from notifications.exceptions import DeliveryError
from notifications.notifiers.base import Delivered, Message, Notifier
from notifications.notifiers.http.client import HttpClient
from notifications.notifiers.http.network import AddressInfo, Resolver
from notifications.notifiers.loading import load, the_way

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OLD_SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
ROUTING_KEY = "r0ut1ngk3yr0ut1ngk3yr0ut1ngk3y32"
API_KEY = "0a1b2c3d-api-key-of-the-team"
TOKEN = "T0kEnT0kEnT0kEn"
LOOPBACK = ["127.0.0.0/8", "::1/128"]
N = "notifications.notifiers"


@dataclass(frozen=True)
class Channel:
    """A channel that speaks HTTP: how it is configured for a server, and what that server says on success."""

    name: str
    options: Callable[[str], dict[str, Any]]
    status: int = 200
    body: bytes = b""
    path: str = f"/services/T00000000/B00000000/{TOKEN}"
    secret: str = TOKEN


SLACK = Channel("Slack", lambda url: {"NOTIFIER": f"{N}.slack.SlackNotifier", "URL": url}, body=b"ok")
TEAMS = Channel(
    "Teams",
    lambda url: {"NOTIFIER": f"{N}.teams.TeamsNotifier", "URL": url},
    status=202,
    path=f"/workflows/abc/triggers/manual/paths/invoke?api-version=1&sig={TOKEN}",
)
PAGERDUTY = Channel(
    "PagerDuty",
    lambda url: {
        "NOTIFIER": f"{N}.pagerduty.PagerDutyNotifier",
        "ROUTING_KEY": ROUTING_KEY,
        "BASE_URL": url,
    },
    status=202,
    body=b'{"status":"success","message":"Event processed","dedup_key":"n-1"}',
    path="",
    secret=ROUTING_KEY,
)
OPSGENIE = Channel(
    "OpsGenie",
    lambda url: {"NOTIFIER": f"{N}.opsgenie.OpsGenieNotifier", "API_KEY": API_KEY, "BASE_URL": url},
    status=202,
    body=b'{"result":"Request will be processed","took":0.1,"requestId":"43a29c5c"}',
    path="",
    secret=API_KEY,
)
WEBHOOK = Channel(
    "Webhook",
    lambda url: {
        "NOTIFIER": f"{N}.webhook.WebhookNotifier",
        "URL": url,
        "SECRETS": [SECRET],
        "ALLOWED_NETWORKS": LOOPBACK,
    },
    path=f"/hook/{TOKEN}",
)
HTTP_CHANNELS = (SLACK, TEAMS, PAGERDUTY, OPSGENIE, WEBHOOK)


def a_message(**changes: Any) -> Message:
    values = {
        "id": "n-1",
        "type": "ExpirationWarning",
        "channel": "Webhook",
        "recipient": "ops",
        "message": "*.example.com expires in 7 days",
        "certificate_id": "mc-api-prod",
        "created_at": datetime(2026, 11, 23, 12, 0, tzinfo=UTC),
        "url": "https://certctl.example.com/admin/notifications/notificationevent/n-1/change/",
    }
    return Message(**{**values, **changes})


def notifier(
    channel: Channel,
    url: str,
    *,
    timeout: float = 5.0,
    tls: ssl.SSLContext | None = None,
    resolver: Resolver | None = None,
    **options: Any,
) -> Notifier:
    """The channel's notifier for the server at `url`, with a client of the test's making."""
    settings = {**channel.options(url), **options}
    made = load(channel.name, settings, timeout)
    made.http = HttpClient(
        timeout=timeout,
        allowed=settings.get("ALLOWED_NETWORKS", ()),
        secrets=type(made).secrets(settings),
        resolver=resolver,
        **the_way(settings),
        **({"tls": lambda own: tls} if tls else {}),
    )
    return made


Result = Delivered | DeliveryError


def outcomes(attempts: Iterable[tuple[Notifier, Message]], *, in_turn: bool = False) -> list[Result]:
    """What became of each, all at once or one after the other; the notifiers are closed afterwards."""
    pairs = list(attempts)

    async def run() -> list[Any]:
        sends = [made.send(message) for made, message in pairs]
        try:
            if not in_turn:
                return await asyncio.gather(*sends, return_exceptions=True)
            return [(await asyncio.gather(send, return_exceptions=True))[0] for send in sends]
        finally:
            for made in {id(made): made for made, _ in pairs}.values():
                await made.close()
                await made.http.close()

    results = asyncio.run(run())
    for result in results:
        if not isinstance(result, Result):
            raise result
    return results


def attempt_all(made: Notifier, messages: Iterable[Message]) -> list[Result]:
    return outcomes([(made, message) for message in messages])


def attempt_each(url: Callable[[Channel], str], **how: Any) -> dict[str, Result]:
    """One message on every HTTP channel, all at once, by the channel's name."""
    results = outcomes([(notifier(c, url(c), **how), a_message()) for c in HTTP_CHANNELS])
    return {channel.name: result for channel, result in zip(HTTP_CHANNELS, results, strict=True)}


def attempt(made: Notifier, message: Message | None = None) -> Result:
    return attempt_all(made, [message or a_message()])[0]


def mail_settings(settings: Any, port: int, **options: Any) -> None:
    """Point Django's mail at a server of the test's, however this version of Django is told."""
    smtp = {"host": "127.0.0.1", "port": port, **options}
    backend = "django.core.mail.backends.smtp.EmailBackend"
    if django.VERSION >= (6, 1):
        settings.MAILERS = {"default": {"BACKEND": backend, "OPTIONS": smtp}}
        return
    settings.EMAIL_BACKEND = backend
    names = {"username": "HOST_USER", "password": "HOST_PASSWORD"}
    defaults = {"username": "", "password": "", "use_tls": False, "use_ssl": False, "timeout": None}
    for name, value in {**defaults, **smtp}.items():
        setattr(settings, f"EMAIL_{names.get(name, name.upper())}", value)


def email_notifier(timeout: float = 5.0, **options: Any) -> Notifier:
    settings = {"NOTIFIER": f"{N}.email.EmailNotifier", "FROM_ADDRESS": "certctl@example.com", **options}
    made = load("Email", settings, timeout)
    made.http.timeout = timeout
    return made


class Names(Resolver):
    """A name server whose answers a test chooses; each look-up of a name takes the next, then the last."""

    def __init__(self, **answers: Iterable[str]) -> None:
        self.answers: Mapping[str, list[str]] = {n.replace("_", "."): list(a) for n, a in answers.items()}
        self.asked: list[str] = []

    async def resolve(self, host: str, port: int) -> list[AddressInfo]:
        self.asked.append(host)
        answers = self.answers.get(host)
        if answers is None:
            raise socket.gaierror(-2, "Name or service not known")
        address = answers.pop(0) if len(answers) > 1 else answers[0]
        if address == "hang":
            await asyncio.get_running_loop().create_future()
        return [
            AddressInfo(10 if ":" in one else 2, socket.SOCK_STREAM, 6, "", (one, port))
            for one in address.split(",")
        ]

    def close(self) -> None:
        pass


EMAIL = {"NOTIFIER": "notifications.notifiers.email.EmailNotifier", "FROM_ADDRESS": "certctl@example.com"}


def said(settings: Any, **channels: Any) -> list[str]:
    settings.NOTIFICATIONS = {"CHANNELS": channels}
    return [f"{str(message.id).split('.')[1]}: {message.msg}" for message in check_channels()]
