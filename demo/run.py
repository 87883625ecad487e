"""The main job, for real, on SQLite: alerts that cannot be delivered die into the dead-letter queue,
an operator requeues them, and they arrive. And a server's certificate that is about to end is seen, paged
about and renewed, and the page resolves itself.

With DEMO_EXIT=1 it plays the operator itself, checks the receiver's log against the table, and exits.
PORT is the console's, 8000 unless that is taken.
"""

from __future__ import annotations

import io
import logging
import math
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from demo.receiver import Receiver, free_port  # noqa: E402

OPERATOR = "operator"
BOUND = b"Starting development server at"
ALERTS = (
    ("ExpirationWarning", "Webhook", "mc-api-prod", "api.example.com expires in 7 days"),
    ("ExpirationWarning", "Email", "mc-api-prod", "api.example.com expires in 7 days"),
    ("ExpirationWarning", "Webhook", "mc-shop", "shop.example.com expires in 14 days"),
    ("ExpirationWarning", "Email", "mc-vpn", "vpn.example.com expires in 1 day"),
    ("RenewalSuccess", "Webhook", "mc-www", "www.example.com was renewed until 2027-02-21"),
    ("RenewalFailure", "Webhook", "mc-ldap", "ldap.example.com: the CA answered 'rate limited'"),
    ("RenewalFailure", "Email", "mc-ldap", "ldap.example.com: the CA answered 'rate limited'"),
    ("DeploymentSuccess", "Webhook", "mc-www", "www.example.com was deployed to lb-1 and lb-2"),
    ("DeploymentFailure", "Webhook", "mc-mail", "mail.example.com: lb-3 refused the new key"),
    ("DeploymentFailure", "Email", "mc-mail", "mail.example.com: lb-3 refused the new key"),
    ("PolicyViolation", "Webhook", "mc-legacy", "legacy.example.com uses a 1024-bit RSA key"),
    ("Revocation", "Email", "mc-old-api", "old-api.example.com was revoked: key compromise"),
)


def main() -> int:
    receiver = Receiver()
    with tempfile.TemporaryDirectory(prefix="certctl-demo-") as folder:
        configure(receiver, Path(folder))
        try:
            return story(receiver, Path(folder))
        except KeyboardInterrupt:
            say("Stopped; the demo's database is gone with it.")
            return 0
        finally:
            receiver.close()


def configure(receiver: Receiver, folder: Path) -> None:
    """Point the project at the demo's own database and receiver, with a backoff of half a second."""
    os.environ.update(
        DJANGO_SETTINGS_MODULE="certctl.settings",
        DATABASE_URL=f"sqlite:///{folder / 'demo.sqlite3'}",
        CERTCTL_SECRET_KEY=secrets.token_hex(32),
        CERTCTL_DEBUG="1",
        CERTCTL_LOG_LEVEL="WARNING",
        CERTCTL_ALLOWED_HOSTS="127.0.0.1,localhost",
        CERTCTL_NOTIFICATION_BACKOFF_BASE="500ms",
        CERTCTL_NOTIFICATION_HOLD_LIMIT="1s",  # in production rows wait for hours before they spend attempts
        CERTCTL_WEBHOOK_URL=f"{receiver.url}/alerts",
        CERTCTL_PAGERDUTY_ROUTING_KEY=secrets.token_hex(16),
        CERTCTL_PAGERDUTY_BASE_URL=receiver.url,
        CERTCTL_WEBHOOK_ALLOWED_NETWORKS="127.0.0.0/8",
        CERTCTL_SMTP_HOST="127.0.0.1",
        CERTCTL_SMTP_PORT=str(receiver.smtp_port),
        CERTCTL_SMTP_USE_TLS="0",
        CERTCTL_SMTP_FROM_ADDRESS="certctl@example.com",
    )
    import django

    django.setup()
    logging.getLogger("notifications.deaths").disabled = True  # the story itself tells of them


def story(receiver: Receiver, folder: Path) -> int:
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    password = make_operator()
    say("A made-up on-call gateway and mail server are running on this machine, and both refuse everything.")
    raise_alerts()
    say(f"{len(ALERTS)} certificate alerts are raised: each is a row of a table, and waits to be delivered.")
    until_all_dead()
    watched = watch_a_server(receiver, folder)
    receiver.up = True
    say("Both take everything again. What is dead stays where it is until a person decides: that is you.")
    if os.environ.get("DEMO_EXIT"):
        return play_operator(receiver) or (0 if watched else 1)
    return serve(password, folder / "server.log")


def watch_a_server(receiver: Receiver, folder: Path) -> bool:
    """Its certificate is about to end, and is renewed: whether the one page about it was resolved by that."""
    from datetime import timedelta

    from demo.endpoint import Endpoint

    endpoint = Endpoint("shop.example.com", folder, left=timedelta(days=3))
    watch("add", endpoint.target, "--ca-file", str(endpoint.root), "--notify", "PagerDuty:oncall")
    say("A TLS server on this machine shows a certificate that ends in 3 days of 90, and is watched.")
    look_and_deliver("Looked at:", endpoint.target)
    say(f"The made-up pager: {pages(receiver)}.")
    endpoint.renew()
    say("Somebody renews the certificate, and reloads the server.")
    look_and_deliver("Looked at again:", endpoint.target)
    say(f"The made-up pager: {pages(receiver)}. Nobody had to close it.")
    return list(receiver.pages.values()) == ["resolve"]


def watch(*arguments: str) -> str:
    from django.core.management import call_command

    out = io.StringIO()
    call_command("watch", *arguments, stdout=out, stderr=out)
    return out.getvalue().strip()


def look_and_deliver(words: str, target: str) -> None:
    from notifications import delivery

    say(words, watch("check", target).splitlines()[-1])
    say("Sent:", told(delivery.send_pending()))


def pages(receiver: Receiver) -> str:
    states = Counter("open" if said == "trigger" else "resolved" for said in receiver.pages.values())
    return ", ".join(
        f"{count} {'page' if count == 1 else 'pages'} {state}" for state, count in states.items()
    )


def make_operator() -> str:
    from django.contrib.auth import get_user_model

    password = secrets.token_urlsafe(9)
    get_user_model().objects.create_superuser(OPERATOR, password=password)
    return password


def raise_alerts() -> None:
    from notifications.models import NotificationEvent

    for kind, channel, certificate, text in ALERTS:
        NotificationEvent.objects.notify(
            type=kind,
            channel=channel,
            recipient="oncall@example.com",
            message=text,
            certificate_id=certificate,
            dedup_key=f"{kind}:{certificate}:{channel}",
        )


def until_all_dead() -> None:
    from notifications import delivery

    say("First attempts:", told(delivery.send_pending()))
    waited = wait_until(lambda: not undelivered(), every=sweep_both, patience=60)
    say(
        f"Five attempts each, {waited:.0f} s (in production: 15 minutes): now in the dead-letter queue,",
        counts(),
    )


def retry() -> None:
    from notifications import delivery

    result = delivery.retry_failed()
    if result.claimed:
        say("Tried again:", told(result))


def play_operator(receiver: Receiver) -> int:
    from notifications import delivery
    from notifications.models import NotificationEvent

    requeued, _ = NotificationEvent.objects.dead().requeue(by=OPERATOR, via="admin")
    say(f"The operator requeues all {requeued} dead letters: they get five fresh attempts.")
    say("Delivered:", told(delivery.send_pending()))
    say("The table says:", counts())
    say(f"The receiver says: {receiver.refused} refused, {receiver.accepted.total()} accepted.")
    ours = NotificationEvent.objects.exclude(channel="PagerDuty").filter(status="sent")
    sent = set(ours.values_list("pk", flat=True))
    right = sent == set(receiver.accepted) and len(sent) == len(ALERTS) == receiver.accepted.total()
    right = right and receiver.refused == 5 * len(ALERTS)
    say("They agree: every alert arrived exactly once." if right else "THEY DIFFER.")
    return 0 if right else 1


def serve(password: str, log: Path) -> int:
    """The console, and a sweep every half second, until Ctrl-C. Answers 1 where the server ends by itself."""
    port = int(os.environ.get("PORT") or free_port(preferred=8000))
    address = f"127.0.0.1:{port}"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, str(ROOT / "manage.py"), "runserver", "--noreload", address],
            stdout=output,
            stderr=output,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    try:
        wait_until(
            lambda: server.poll() is not None or BOUND in log.read_bytes(), every=lambda: None, patience=60
        )
        if server.poll() is None:
            say(f"Open http://{address}/admin/notifications/notificationevent/?status=dead in a browser.")
            say(f"What is watched: http://{address}/admin/notifications_certificates/certificate/")
            say(f"Log in as {OPERATOR} with the password {password}. Requeue; the alerts arrive here.")
            say("Ctrl-C here ends it and removes everything.")
            wait_until(lambda: server.poll() is not None, every=sweep_both)
    finally:
        server.terminate()
        server.wait(10)
    say(f"The console's server on {address} ended. The last that it said (PORT=… chooses another port):")
    print("\n".join(log.read_text(errors="replace").splitlines()[-3:]), flush=True)
    return 1


def told(result: Any) -> str:
    """A sweep's counts for somebody who has not met them."""
    words = ((result.sent, "arrived"), (result.rescheduled, "refused, to be tried again"))
    words += ((result.dead, "refused for the last time"),)
    return ", ".join(f"{number} {what}" for number, what in words if number) or "nothing was due"


def sweep_both() -> None:
    from notifications import delivery

    result = delivery.send_pending()
    if result.claimed:
        say("Sent:", told(result))
    retry()


def wait_until(done: Callable[[], bool], every: Callable[[], None], patience: float = math.inf) -> float:
    """Run `every` twice a second until `done`; answers the seconds that took."""
    start = time.monotonic()
    while not done():
        if time.monotonic() - start > patience:
            raise SystemExit(f"the story did not get on within {patience:g} s: {counts()}")
        time.sleep(0.5)
        every()
    return time.monotonic() - start


def undelivered() -> int:
    from notifications.models import NotificationEvent

    return int(NotificationEvent.objects.filter(status__in=("pending", "failed")).count())


def counts() -> str:
    from notifications.models import NotificationEvent, Status

    numbers = ((status, NotificationEvent.objects.count_by_status(status)) for status in Status.values)
    return ", ".join(f"{number} {status}" for status, number in numbers if number)


def say(*words: object) -> None:
    print(f"{time.strftime('%H:%M:%S')} ", *words, flush=True)


if __name__ == "__main__":
    sys.exit(main())
