"""The main job in a host's project: raise, sweep, look, requeue, send by hand, REST, watch, metrics, prune.

    DJANGO_SETTINGS_MODULE=tests.hosts.cases.… HOST_FOLDER=… python -m tests.hosts.main_job

Every step is said before it is done. The last line is "done"; "refused" where `check` has an Error, and then
a sweep must refuse too, in one line, with nothing sent and nothing lost.
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import django
import pytest

ADMIN = "/admin/notifications/notificationevent/"
API = "/alerts/api/notifications"
CERTIFICATES = "/admin/notifications_certificates/"


def main() -> None:
    with HttpReceiver() as receiver:
        os.environ["HOST_RECEIVER"] = receiver.url()
        django.setup()
        migrate()
        if error := refusal():
            step(error)
            must_not_sweep(receiver)
            step("refused")
            return
        raise_and_sweep(receiver)
        look()
        requeue_many(receiver)
        send_by_hand(receiver)
        over_rest(receiver)
        watch_certificates(receiver)
        probe_and_scrape()
        prune()
    step("done")


def step(text: str) -> None:
    print(text, flush=True)


def command(*arguments: str, **options: Any) -> str:
    from django.core.management import call_command

    step(" ".join(arguments))
    out = io.StringIO()
    call_command(*arguments, stdout=out, stderr=out, **options)
    return out.getvalue()


def migrate() -> None:
    from django.conf import settings

    for alias in settings.MIGRATED:
        command("migrate", verbosity=0, database=alias, skip_checks=True)


def refusal() -> str:
    """What `check` has against the settings; "" for nothing."""
    from django.conf import settings
    from django.core.management.base import SystemCheckError

    try:
        said = command("check", databases=settings.MIGRATED)
    except SystemCheckError as error:
        return str(error)
    assert "no issues" in said, said
    return ""


def must_not_sweep(receiver: HttpReceiver) -> None:
    from django.core.management.base import CommandError

    event = raised("mc-kept")
    with pytest.raises(CommandError, match=r"\A.*\Z"):  # one line
        command("send_notifications")
    assert not receiver.requests
    assert fresh(event).status == "pending"


def raised(name: str) -> Any:
    from notifications.models import NotificationEvent

    event, created = NotificationEvent.objects.notify(
        type="ExpirationWarning",
        channel="Webhook",
        recipient="#pki",
        certificate_id=name,
        message=f"{name} expires in 7 days",
        dedup_key=name,
    )
    assert created
    return event


def dead(receiver: HttpReceiver, count: int) -> list[Any]:
    """So many that the receiver refused for good."""
    receiver.always(400)
    events = [raised(f"mc-dead-{len(receiver.requests)}-{n}") for n in range(count)]
    command("send_notifications")
    receiver.always(200)
    for event in events:
        assert fresh(event).status == "dead", fresh(event).__dict__
    return events


def fresh(event: Any) -> Any:
    from notifications.models import NotificationEvent

    return NotificationEvent.objects.get(pk=event.pk)


def raise_and_sweep(receiver: HttpReceiver) -> None:
    from django.conf import settings

    good, transient = raised("mc-good"), raised("mc-transient")
    receiver.by_id({transient.pk: 503})
    command("send_notifications")
    assert fresh(good).status == "sent"
    assert fresh(transient).status == "failed"
    assert sorted(receiver.ids) == sorted([good.pk, transient.pk])
    base = settings.NOTIFICATIONS.get("BASE_URL", "").rstrip("/")
    links = {request.json["data"]["url"] for request in receiver.requests}
    assert links == ({f"{base}{ADMIN}{event.pk}/change/" for event in (good, transient)} if base else {""})
    assert fresh(transient).next_retry_at
    assert '"claimed": 0' in command("retry_notifications", "--json")
    command("notifications", "requeue", transient.pk, "--yes")
    receiver.always(200)
    command("send_notifications")
    assert fresh(transient).status == "sent"
    assert [a.outcome for a in fresh(transient).deliveryattempts.order_by("id")] == ["transient", "sent"]
    event, created = type(good).objects.notify(
        type="x", channel="Webhook", recipient="#pki", message="again", dedup_key="mc-good"
    )
    assert (event.pk, created) == (good.pk, False)


def operator() -> Any:
    from django.contrib.auth.models import User
    from django.test import Client

    client = Client()
    user = User.objects.filter(username="ada").first() or User.objects.create_superuser("ada")
    client.force_login(user)
    return client


def page(client: Any, path: str, *, status: int = 200, **data: Any) -> str:
    step(f"{'POST' if data else 'GET'} {path}")
    response = client.post(path, data) if data else client.get(path)
    text = str(response.content.decode())
    assert response.status_code == status, (response.status_code, text[-2000:])
    says_each_zone_once(text)
    return text


def says_each_zone_once(html: str) -> None:
    """Whatever a person reads as a time is followed by the site's zone, in summer or winter, and by nothing
    else."""
    from datetime import timedelta

    from django.utils import timezone

    for_programs = r' (?:datetime|value|href|action)="[^"]*"|<pre.*?</pre>'
    read = re.sub(for_programs, "", html, flags=re.DOTALL)
    now = timezone.now()
    seasons = {f"{timezone.localtime(now + timedelta(days=days)):%Z}" for days in range(0, 365, 30)}
    times = re.findall(r"(?<![\d.:-])\d{1,2}:\d\d\b(?::\d\d)?.{9}", read)
    zone = "|".join(seasons)
    assert all(re.match(rf"[\d:]+ (?:{zone})\b(?! [A-Z]{{3}})", time) for time in times), times


def look() -> None:
    client, event = operator(), raised("mc-looked-at")
    assert "mc-looked-at" in page(client, ADMIN)
    assert "mc-looked-at" in page(client, f"{ADMIN}?{urlencode({'age': '1h', 'q': 'mc-looked-at'})}")
    assert "mc-looked-at" in page(client, f"{ADMIN}{event.pk}/change/")
    for name in ("dashboard", "endpoints", "operations"):
        page(client, f"{ADMIN}{name}/")
    page(client, f"{ADMIN}?{urlencode({'since': event.created_at.isoformat()})}")
    command("notifications", "list")
    command("notifications", "show", event.pk)
    command("notifications", "stats")


def requeue_many(receiver: HttpReceiver) -> None:
    client, events = operator(), dead(receiver, 3)
    chosen = {"action": "requeue_selected", "_selected_action": [event.pk for event in events]}
    assert "Requeue 3" in page(client, ADMIN, **chosen)
    page(client, ADMIN, **chosen, **{"try": "1"})
    assert sorted(fresh(event).status for event in events) == ["dead", "dead", "sent"]
    page(client, ADMIN, status=302, **chosen, confirm="1", reason="mended")
    assert sorted(fresh(event).status for event in events) == ["pending", "pending", "sent"]
    page(client, f"{ADMIN}operations/")
    command("send_notifications")
    assert {fresh(event).status for event in events} == {"sent"}


def send_by_hand(receiver: HttpReceiver) -> None:
    client, [event] = operator(), dead(receiver, 1)
    page(client, f"{ADMIN}{event.pk}/send/", status=302, page="1")
    assert fresh(event).status == "sent"
    assert "Sent by hand: Sent in" in page(client, f"{ADMIN}{event.pk}/history/")
    receiver.always(503)
    event = raised("mc-by-hand")
    page(client, f"{ADMIN}{event.pk}/send/", status=302, page="1")
    assert fresh(event).status == "failed"
    page(client, f"{ADMIN}{event.pk}/requeue/", status=302, page="1")
    assert fresh(event).status == "pending"
    receiver.always(200)


def over_rest(receiver: HttpReceiver) -> None:
    from django.contrib.auth.models import User
    from django.test import Client

    from notifications.api.models import ApiToken

    secret = ApiToken.objects.issue(User.objects.get(username="ada"), "host")[1]
    client = Client(headers={"authorization": f"Bearer {secret}"})
    tokens = "/admin/notifications_api/apitoken/"
    assert "host" in page(operator(), tokens)
    page(operator(), f"{tokens}{ApiToken.objects.get().pk}/change/")

    def call(path: str = "", status: int = 200, body: Any = None) -> Any:
        step(f"{'GET' if body is None else 'POST'} {API}{path}")
        response = (
            client.get(API + path)
            if body is None
            else client.post(API + path, json.dumps(body), content_type="application/json")
        )
        assert response.status_code == status, response.content
        return response.json()

    given = {"type": "ExpirationWarning", "channel": "Webhook", "recipient": "#pki", "message": "by REST"}
    made = call(status=201, body={**given, "dedup_key": "rest"})
    assert call(body={**given, "dedup_key": "rest"})["id"] == made["id"]
    assert made["id"] in {one["id"] for one in call("?status=pending")["data"]}
    [event] = dead(receiver, 1)
    assert [one["outcome"] for one in call(f"/{event.pk}")["attempts"]] == ["permanent"]
    call(f"/{event.pk}/requeue", body={})
    assert fresh(event).status == "pending"
    refused = call(f"/{event.pk}/requeue", status=409, body={})
    assert refused["error"]["code"] == "refused"
    events = dead(receiver, 2)
    assert call("/requeue", body={"status": "dead"})["skipped"] == 0
    assert {fresh(event).status for event in events} == {"pending"}
    command("send_notifications")
    call(f"/{made['id']}/read", body={})
    assert fresh(events[0]).status == "sent"


def watch_certificates(receiver: HttpReceiver) -> None:
    """A server's certificate that is about to end: seen, told of, renewed."""
    from datetime import timedelta

    from django.utils import timezone

    from notifications.certificates.models import Certificate, Watch
    from notifications.models import NotificationEvent
    from tests.certificates.authority import Authority
    from tests.certificates.servers import Servers

    folder, authority, now = Path(os.environ["HOST_FOLDER"]), Authority(), timezone.now()
    old = authority.issue("www.example.com", since=now - timedelta(days=89))
    new = authority.issue("www.example.com", since=now - timedelta(days=1))
    with Servers() as servers:
        shown = [old.context(folder)]
        target = f"www.example.com@127.0.0.1:{servers.reloading(shown)}"
        command("watch", "add", target, "--notify", "Webhook:#pki", "--on-renewal")
        assert "1 alert raised" in command("watch", "check")
        assert "0 alerts raised" in command("watch", "check", "--all")
        command("send_notifications")
        shown[0] = new.context(folder)
        assert "1 alert raised" in command("watch", "check", target)
    command("send_notifications")
    told = NotificationEvent.objects.filter(certificate_id="www.example.com").order_by("created_at")
    assert [(one.type, one.status) for one in told] == [
        ("ExpirationWarning", "sent"),
        ("RenewalSuccess", "sent"),
    ]
    assert {one.pk for one in told} <= set(receiver.ids)
    client = operator()
    assert target in page(client, f"{CERTIFICATES}watch/")
    page(client, f"{CERTIFICATES}watch/{Watch.objects.get().pk}/change/")
    assert "www.example.com" in page(client, f"{CERTIFICATES}certificate/")
    for certificate in Certificate.objects.all():
        page(client, f"{CERTIFICATES}certificate/{certificate.pk}/change/")
    page(client, f"{CERTIFICATES}certificate/calendar/")
    calls = API.removesuffix("notifications")
    for path, text in (("watches", target), (f"certificates/{old.fingerprint}", "1 arrived")):
        step(f"GET {calls}{path}")
        assert text in client.get(f"{calls}{path}").content.decode()
    command("watch", "list")
    command("watch", "show", target)
    command("watch", "remove", target)


def probe_and_scrape() -> None:
    from django.test import Client

    client = Client()
    page(client, "/healthz")
    assert '"ready"' in page(client, "/readyz")
    scraped = page(client, "/metrics")
    assert "certctl_notification_attempts_total" in scraped
    assert 'certctl_notifications{status="sent"}' in scraped
    assert 'certctl_certificates{state="seen"}' in scraped


def prune() -> None:
    from datetime import timedelta

    from django.utils import timezone

    from notifications.models import NotificationEvent

    before = NotificationEvent.objects.count_by_status("read")
    assert before
    long_ago = timezone.now() - timedelta(days=200)
    NotificationEvent.objects.filter(status="read").update(created_at=long_ago, sent_at=long_ago)
    command("notifications", "prune", "--older-than", "90d")
    assert not NotificationEvent.objects.count_by_status("read")


if __name__ == "__main__":
    from tests.receiver import HttpReceiver

    main()
    sys.exit(0)
