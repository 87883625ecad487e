"""Withdrawing where others claim, send, record and requeue the same rows: each row has one end."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from notifications import conf
from notifications.engine.loop import deliver
from notifications.exceptions import TransitionRefused
from notifications.models import NotificationEvent, Status, Tally, Withdrawal
from notifications.models.tallies import EPOCH, WITHDRAWN
from notifications.queue.claim import claim
from notifications.queue.record import Outcome, record
from notifications.reporting import words
from tests.factories import LEASE, dead, failed, pending
from tests.processes import ROOT, eventually
from tests.receiver import HELD, Answer, HttpReceiver
from tests.renewals import about, certificate, renew
from tests.scripted import Script

EVENTS = NotificationEvent.objects
ROWS = 60
# Withdraws, and requeues what has died, as fast as it can, until nothing is left to do.
FIGHT = """
import sys, django
django.setup()
from notifications.models import NotificationEvent
events = NotificationEvent.objects
print("ready", flush=True)
sys.stdin.readline()
while events.filter(status__in=("pending", "failed", "dead")).exists():
    events.all().withdraw(by="op", via="cli")
    events.dead().requeue(by="op", via="cli", renewed=True)
"""


def outcome(event: Any, status: str = Status.SENT) -> Outcome:
    return Outcome(event, "Webhook", status, "sent", timezone.now(), 5, status_code=200)


@pytest.mark.django_db
@pytest.mark.parametrize("make", [pending, failed])
def test_against_a_claim_and_its_record(make: Any) -> None:
    """While a worker has it, nobody withdraws it; a worker that comes back late changes nothing."""
    now = timezone.now()
    old = certificate()
    event = about(old, make=make)
    [mine] = claim(EVENTS.all(), 1, now=now, lease=LEASE)
    renew(old)
    with pytest.raises(TransitionRefused, match="an attempt is running"):
        event.withdraw(by="ada")
    assert EVENTS.all().withdraw(by="ada", now=now + LEASE + timedelta(seconds=1)).changed == 1
    recorded = record([outcome(mine)], now=now + LEASE * 2, worker="w")
    assert (recorded.written, words.kind(EVENTS.get())) == (set(), "withdrawn")
    assert [a.outcome for a in event.deliveryattempts.order_by("pk")] == ["interrupted", "sent"]


@pytest.mark.django_db
def test_against_a_record_that_came_first() -> None:
    now = timezone.now()
    old = certificate()
    event = about(old)
    [mine] = claim(EVENTS.all(), 1, now=now, lease=LEASE)
    renew(old)
    assert record([outcome(mine)], now=now, worker="w").written == {event.pk}
    with pytest.raises(TransitionRefused, match="it was delivered"):
        event.withdraw(by="ada")


@pytest.mark.django_db
def test_against_a_requeue() -> None:
    """Whichever comes first, the other is refused or finds its own."""
    old = certificate()
    first, second = about(old, make=dead), about(old, make=dead)
    renew(old)
    first.withdraw(by="ada")
    with pytest.raises(TransitionRefused, match="it is read"):
        first.requeue(by="bob", renewed=True)
    second.requeue(by="bob", renewed=True)
    with pytest.raises(TransitionRefused, match="not certain"):
        second.withdraw(by="ada")  # somebody wants it


@pytest.mark.django_db
def test_between_the_claim_and_the_attempt_it_is_asked_again(script: Script) -> None:
    """Whoever got it under its lease, a task engine's worker say, looks once more: the lease is its own."""
    old = certificate()
    event = about(old)
    claimed = claim(EVENTS.all(), 1, now=timezone.now(), lease=LEASE)
    renew(old)
    with pytest.raises(TransitionRefused, match="an attempt is running"):
        event.withdraw(by="ada")
    result = deliver("batch", claimed, conf.current())
    assert (result.withdrawn, script.ids, words.kind(EVENTS.get())) == (1, [], "withdrawn")


def test_processes_that_send_withdraw_and_requeue_the_same_rows(
    receiver: HttpReceiver, process_environment: dict[str, str], certctl_command: list[str]
) -> None:
    """The certificate is renewed while they are at it. What arrived is sent, all else is withdrawn."""
    environment = process_environment | {"CERTCTL_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8"}
    receiver.answer = lambda request: HELD
    old = certificate()
    for n in range(ROWS):
        about(old, make=pending if n % 3 else dead, recipient=receiver.url())
    fighters = [
        subprocess.Popen(
            [sys.executable, "-c", FIGHT],
            env=environment,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    sweeps: list[subprocess.Popen[str]] = []
    try:
        for fighter in fighters:
            assert fighter.stdout
            assert fighter.stdout.readline() == "ready\n"
        command = [*certctl_command, "send_notifications", "--json", "--concurrency", "3"]
        sweeps = [
            subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        eventually(lambda: receiver.requests, "an attempt is under way")
        renew(old)
        for fighter in fighters:
            assert fighter.stdin
            fighter.stdin.write("\n")
            fighter.stdin.flush()
        receiver.answer = lambda request: Answer()
        receiver.let_go()
        ended = [sweep.communicate(timeout=120)[0] for sweep in sweeps]
        assert [sweep.returncode for sweep in sweeps] == [0, 0], ended
        while EVENTS.filter(status__in=("pending", "failed", "dead")).exists():
            subprocess.run(command, env=environment, cwd=ROOT, check=True, capture_output=True)
        answers = [fighter.communicate(timeout=120) for fighter in fighters]
    finally:
        for process in (*fighters, *sweeps):
            process.kill()
    assert [fighter.returncode for fighter in fighters] == [0, 0], answers
    found = {event.pk: words.kind(event) for event in EVENTS.with_kind()}
    assert set(found.values()) <= {"sent", "withdrawn"}
    arrived = [request.id for request in receiver.requests]
    unknown = set(EVENTS.filter(deliveryattempts__outcome="unknown").values_list("pk", flat=True))
    sent = {pk for pk, kind in found.items() if kind == "sent"}
    assert sent <= set(arrived) <= sent | unknown, "what was withdrawn did not go out"
    assert len(arrived) == len(set(arrived)) or unknown
    withdrawn = [pk for pk, kind in found.items() if kind == "withdrawn"]
    assert sorted(Withdrawal.objects.values_list("notification_id", flat=True)) == sorted(withdrawn)
    assert withdrawn
    tallied = Tally.objects.filter(hour=EPOCH, outcome=WITHDRAWN).values_list("attempts", flat=True)
    assert sum(tallied) == len(withdrawn)
