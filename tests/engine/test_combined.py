"""A backlog for an endpoint with a pace goes out in few messages; each notification has its own record."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from notifications import delivery
from notifications.models import COMBINED, DeliveryAttempt, NotificationEvent, Status
from notifications.notifiers.wording import COMBINED_LINE
from notifications.queue.messages import MOST_COMBINED
from tests import factories
from tests.factories import ago
from tests.fixtures import Configure
from tests.receiver import Answer, HttpReceiver

pytestmark = pytest.mark.django_db
SLACK = "notifications.notifiers.slack.SlackNotifier"


@pytest.fixture
def slack(receiver: HttpReceiver, configure: Configure) -> HttpReceiver:
    """An incoming webhook that combines what has waited for a minute."""
    receiver.always(Answer(200, b"ok"))
    options = {"NOTIFIER": SLACK, "URL": receiver.url(), "COMBINE_AFTER": 60, "MAX_PER_SECOND": 20}
    configure(CHANNELS={"Slack": options})
    return receiver


def backlog(count: int, recipient: str = "#pki", minutes: int = 10) -> list[NotificationEvent]:
    return [
        factories.pending(
            channel="Slack",
            recipient=recipient,
            certificate_id=f"mc-{recipient}-{n:03}",
            message=f"It expires in {n} days",
            created_at=ago(minutes=minutes),
        )
        for n in range(count)
    ]


def texts(receiver: HttpReceiver) -> list[str]:
    return [json.loads(request.body)["text"] for request in receiver.requests]


def test_what_has_waited_goes_out_together_each_with_its_own_record(slack: HttpReceiver) -> None:
    rows = backlog(MOST_COMBINED + 10)
    result = delivery.send_pending()
    assert result.sent == len(rows) == NotificationEvent.objects.filter(status=Status.SENT).count()
    assert len(slack.requests) < 10
    said = "\n".join(texts(slack))
    assert [row.certificate_id for row in rows if said.count(str(row.certificate_id)) != 1] == []
    attempts = DeliveryAttempt.objects.all()
    assert Counter(attempts.values_list("notification", flat=True)) == {row.pk: 1 for row in rows}
    assert attempts.filter(outcome="sent", reason=COMBINED).count() > MOST_COMBINED


def test_what_was_raised_just_now_keeps_its_own_message(slack: HttpReceiver) -> None:
    rows = backlog(3, minutes=0)
    delivery.send_pending()
    assert len(slack.requests) == len(rows)
    assert not DeliveryAttempt.objects.filter(reason=COMBINED).exists()


def test_each_recipient_has_messages_of_its_own(slack: HttpReceiver) -> None:
    backlog(4, "#pki")
    backlog(4, "#web")
    delivery.send_pending()
    assert all(("mc-#pki" in text) != ("mc-#web" in text) for text in texts(slack))
    assert NotificationEvent.objects.filter(status=Status.SENT).count() == 8


def test_a_message_that_fails_is_a_failed_attempt_of_each(slack: HttpReceiver) -> None:
    slack.always(Answer(400, b"invalid_payload"))
    rows = backlog(3)
    delivery.send_pending()
    assert len(slack.requests) == 1
    assert DeliveryAttempt.objects.exclude(error=None).count() == len(rows)
    assert NotificationEvent.objects.filter(status=Status.DEAD).count() == len(rows)


def test_a_long_alert_takes_no_other_ones_place(slack: HttpReceiver) -> None:
    """The provider cuts what is too long: what stands last in the message must still be there."""
    rows = backlog(MOST_COMBINED)
    NotificationEvent.objects.update(message="\N{SNOWMAN}" * 10 * COMBINED_LINE)
    delivery.send_pending()
    blocks = [json.loads(request.body)["blocks"] for request in slack.requests]
    said = json.dumps(blocks)
    assert [row.certificate_id for row in rows if str(row.certificate_id) not in said] == []
