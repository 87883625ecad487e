"""retry_notifications and send_notifications: options, exit codes, and what they say."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import time
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command

from notifications.exceptions import PermanentError, TransientError
from notifications.models import DeliveryAttempt, NotificationEvent, Status, SweepRun
from tests import factories
from tests.factories import ago, ahead
from tests.fixtures import Configure
from tests.receiver import HELD, HttpReceiver
from tests.scripted import Script

KEYS = ["kind", "claimed", "sent", "rescheduled", "dead", "no_notifier", "released", "seconds"]
COMMANDS = ("retry_notifications", "send_notifications")


def run(command: str, *args: str) -> str:
    out = StringIO()
    call_command(command, *args, stdout=out)
    return out.getvalue()


def result(command: str, *args: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(run(command, *args, "--json").splitlines()[-1])
    return answer


def due(command: str, **fields: Any) -> NotificationEvent:
    return factories.failed(**fields) if command == "retry_notifications" else factories.pending(**fields)


@pytest.mark.django_db
@pytest.mark.usefixtures("script")
@pytest.mark.parametrize("command", COMMANDS)
class TestOneSweep:
    def test_the_summary_is_one_line(self, command: str) -> None:
        due(command)
        kind = command.split("_")[0].replace("send", "pending")
        said = run(command)
        assert said.startswith(f"{kind} sweep: 1 claimed, 1 sent, 0 rescheduled, 0 dead,")
        assert said.count("\n") == 1

    def test_json_is_one_object_with_these_keys(self, command: str) -> None:
        due(command)
        answer = result(command)
        assert list(answer) == KEYS
        assert (answer["claimed"], answer["sent"]) == (1, 1)
        assert SweepRun.objects.get().claimed == 1

    def test_nothing_to_do_is_no_error(self, command: str) -> None:
        assert result(command)["claimed"] == 0

    def test_the_limit(self, command: str) -> None:
        for _ in range(5):
            due(command)
        assert result(command, "--limit", "2")["claimed"] == 2

    def test_the_channel_without_regard_to_case(self, command: str, script: Script) -> None:
        mine = due(command, channel="webhook")
        due(command, channel="Email")
        assert result(command, "--channel", "WEBHOOK")["claimed"] == 1
        assert script.ids == [mine.pk]

    def test_concurrency_is_the_most_in_flight(self, command: str, webhook: HttpReceiver) -> None:
        for _ in range(6):
            due(command)
        assert result(command, "--concurrency", "1")["sent"] == 6

    def test_a_failure_is_no_error_of_the_command(self, command: str, script: Script) -> None:
        script.otherwise = TransientError("HTTP 503")
        due(command)
        assert result(command)["rescheduled"] == 1

    def test_fail_on_dead(self, command: str, script: Script) -> None:
        script.otherwise = PermanentError("HTTP 400", advice="mend it")
        due(command)
        with pytest.raises(CommandError, match="1 notifications died") as raised:
            run(command, "--fail-on-dead")
        assert raised.value.returncode == 2

    def test_fail_on_dead_tells_of_what_was_not_delivered(self, command: str, script: Script) -> None:
        due(command, channel="Pager", created_at=ago(minutes=11), next_retry_at=ago(minutes=11))
        with pytest.raises(
            CommandError, match=r"^1 notifications were not delivered: .* no notifier"
        ) as raised:
            run(command, "--fail-on-dead")
        assert raised.value.returncode == 2

    def test_fail_on_dead_when_nothing_died(self, command: str) -> None:
        due(command)
        run(command, "--fail-on-dead")

    def test_a_dry_run_says_what_is_due_and_changes_nothing(self, command: str, script: Script) -> None:
        for _ in range(3):
            due(command)
        before = list(NotificationEvent.objects.order_by("pk").values())
        assert "Webhook: 3 due" in run(command, "--dry-run")
        assert result(command, "--dry-run")["due"] == 3
        assert list(NotificationEvent.objects.order_by("pk").values()) == before
        assert (script.messages, SweepRun.objects.count(), DeliveryAttempt.objects.count()) == ([], 0, 0)

    def test_bad_settings_are_one_line(self, command: str, configure: Configure) -> None:
        configure(MAX_ATTEMPT=3)
        with pytest.raises(CommandError, match="NOTIFICATIONS has no setting 'MAX_ATTEMPT'") as raised:
            run(command)
        assert raised.value.returncode == 1
        assert "\n" not in str(raised.value)


@pytest.mark.django_db
def test_the_budget_of_one_run(script: Script) -> None:
    script.otherwise = TransientError("HTTP 503")
    event = factories.failed(retry_count=2)
    assert result("retry_notifications", "--max-attempts", "3")["dead"] == 1
    event.refresh_from_db()
    assert (event.status, event.retry_count) == (Status.DEAD, 2)


@pytest.mark.django_db
def test_stranded_rows_are_taken_only_when_asked_for(script: Script) -> None:
    event = factories.stranded()
    assert result("retry_notifications")["claimed"] == 0
    assert "1 unscheduled" in run("retry_notifications", "--include-unscheduled", "--dry-run")
    assert result("retry_notifications", "--include-unscheduled")["sent"] == 1
    assert script.ids == [event.pk]


@pytest.mark.django_db
def test_what_is_not_due_stays(script: Script) -> None:
    factories.failed(due_at=ahead(minutes=5))
    assert result("retry_notifications")["claimed"] == 0
    assert script.messages == []


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("field", "value"),
    [("recipient", "r" * 256), ("message", "a\x00b"), ("channel", "c" * 256), ("type", ""), ("message", "")],
)
def test_what_the_table_cannot_hold_is_refused_by_its_field(field: str, value: str) -> None:
    fields = {"type": "X", "channel": "Webhook", "recipient": "r", "message": "m"}
    with pytest.raises(ValidationError) as raised:
        NotificationEvent.objects.notify(**{**fields, field: value})
    assert list(raised.value.message_dict) == [field]
    assert not NotificationEvent.objects.exists()


# Real processes


def process(command: list[str], environment: dict[str, str], *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command, *args], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


BAD = {
    "a word for a number": (["retry_notifications", "--limit", "many"], {}, 2, "--limit"),
    "nothing for a number": (["send_notifications", "--concurrency", "0"], {}, 2, "--concurrency"),
    "an unknown option": (["send_notifications", "--include-unscheduled"], {}, 2, "unrecognized"),
    "an unknown command": (["resend_notifications"], {}, 1, "resend_notifications"),
    "a malformed database": (
        ["retry_notifications"],
        {"DATABASE_URL": "postgres//certctl:hunter2@db/certctl"},
        1,
        "DATABASE_URL",
    ),
    "a database that is away": (
        ["retry_notifications"],
        {"DATABASE_URL": "postgres://certctl:hunter2@127.0.0.1:1/certctl"},
        1,
        "127.0.0.1",
    ),
    "a bad duration": (
        ["retry_notifications"],
        {"CERTCTL_NOTIFICATION_LEASE": "soon"},
        1,
        "CERTCTL_NOTIFICATION_LEASE",
    ),
    "a lease that is too short": (["retry_notifications"], {"CERTCTL_NOTIFICATION_LEASE": "31s"}, 1, "LEASE"),
    "an unknown id": (["notifications", "requeue", "no-such-id"], {}, 1, "no-such-id"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_one_clear_line(
    what: str, process_environment: dict[str, str], certctl_command: list[str]
) -> None:
    event = factories.failed()
    arguments, changes, code, named = BAD[what]
    ran = process(certctl_command, process_environment | changes, *arguments)
    said = ran.stderr.strip()
    assert ran.returncode == code
    assert named in said
    assert "Traceback" not in said
    assert "hunter2" not in said
    assert code == 2 or what == "an unknown command" or len(said.splitlines()) == 1
    unchanged = NotificationEvent.objects.get(pk=event.pk)
    assert (unchanged.status, unchanged.retry_count) == (Status.FAILED, 1)


def test_a_refused_transition_says_why(
    process_environment: dict[str, str], certctl_command: list[str]
) -> None:
    event = factories.sent()
    ran = process(certctl_command, process_environment, "notifications", "requeue", event.pk)
    assert ran.returncode == 1
    assert "it was delivered" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_sigterm_finishes_what_runs_and_gives_back_the_rest(
    receiver: HttpReceiver, process_environment: dict[str, str], certctl_command: list[str]
) -> None:
    receiver.always(HELD)
    for _ in range(40):
        factories.pending(recipient=receiver.url())
    environment = process_environment | {"CERTCTL_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8"}
    with subprocess.Popen(
        [*certctl_command, "send_notifications", "--json"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as sweep:
        receiver.wait_for(5)
        sweep.send_signal(signal.SIGTERM)
        released = NotificationEvent.objects.pending().filter(leased_until=None)
        wait_until(lambda: released.count() == 35)
        receiver.let_go()
        out, _ = sweep.communicate(timeout=60)
    answer = json.loads(out.splitlines()[-1])
    assert (sweep.returncode, answer["sent"]) == (0, 5)
    assert len(set(receiver.ids)) == len(receiver.requests) == 5
    assert released.count() == 35
    assert not NotificationEvent.objects.exclude(leased_until=None).exists()


def wait_until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.05)


def test_the_bar_is_for_terminals_and_for_work_that_takes_a_while(
    receiver: HttpReceiver, process_environment: dict[str, str], certctl_command: list[str]
) -> None:
    """More than a second of work: a bar on a terminal, nothing at all in a file."""
    receiver.script(*[HELD] * 1)
    for n in range(3):
        factories.pending(recipient=receiver.url(), created_at=ago(hours=n))
    environment = process_environment | {
        "CERTCTL_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
        "CERTCTL_NOTIFICATION_SEND_TIMEOUT": "3s",
        "TERM": "xterm",
    }
    environment.pop("NO_COLOR", None)
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*certctl_command, "send_notifications"], env=environment, stdout=subprocess.PIPE, stderr=theirs
    ) as sweep:
        os.close(theirs)
        shown = read_all(ours)
        out, _ = sweep.communicate(timeout=60)
    assert b"pending sweep" in shown
    assert b"%" in shown
    assert out.count(b"\n") == 1


def read_all(descriptor: int) -> bytes:
    """Everything until the other side of the terminal is closed."""
    shown = b""
    try:
        while chunk := os.read(descriptor, 65536):
            shown += chunk
    except OSError:
        pass
    os.close(descriptor)
    return shown


def test_the_help_text_tells_the_truth() -> None:
    """The default that the help text names is the default that applies."""
    from notifications.conf import Conf

    assert (Conf().sweep_limit, Conf().max_attempts, Conf().concurrency) == (1000, 5, 100)
