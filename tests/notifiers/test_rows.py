"""Every HTTP channel end to end: from rows, through a sweep, to a server that speaks for the provider."""

from __future__ import annotations

import pytest

from notifications import delivery
from notifications.models import DeliveryAttempt, Hold, NotificationEvent, Status
from tests import factories
from tests.factories import ago, ahead
from tests.fixtures import Configure
from tests.notifiers.support import HTTP_CHANNELS, OPSGENIE, PAGERDUTY, SLACK, WEBHOOK, Channel
from tests.receiver import Answer, HttpReceiver

pytestmark = pytest.mark.django_db
every_channel = pytest.mark.parametrize("channel", HTTP_CHANNELS, ids=lambda channel: channel.name)


def rows(channel: Channel, number: int) -> list[NotificationEvent]:
    return [factories.pending(channel=channel.name.lower(), recipient="oncall") for _ in range(number)]


def use(channel: Channel, receiver: HttpReceiver, configure: Configure, **options: object) -> None:
    """The channel, pointing at the receiver, without Slack's pace where that is not what a test is about."""
    pace = {"MAX_PER_SECOND": None}
    settings = {**channel.options(receiver.url(channel.path)), **pace, **options}
    configure(CHANNELS={channel.name: settings}, BASE_URL="https://certctl.example.com")


@every_channel
def test_a_row_is_delivered_with_a_link_to_itself(
    channel: Channel, receiver: HttpReceiver, configure: Configure
) -> None:
    use(channel, receiver, configure)
    receiver.script(Answer(channel.status, channel.body))
    [event] = rows(channel, 1)
    assert delivery.send_pending().sent == 1
    link = f"https://certctl.example.com/admin/notifications/notificationevent/{event.pk}/change/"
    assert link in receiver.requests[0].body.decode()


@every_channel
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_holds_the_endpoint_for_all_its_rows(
    channel: Channel, status: int, receiver: HttpReceiver, configure: Configure
) -> None:
    use(channel, receiver, configure)
    receiver.script(then=Answer(status, "slow down", headers={"Retry-After": "600"}))
    events = rows(channel, 20)
    delivery.send_pending(concurrency=1)
    assert len(receiver.requests) == 1
    hold = Hold.objects.get()
    assert (hold.reason, hold.channel) == ("rate_limited", channel.name)
    assert hold.until > ahead(seconds=590)
    assert delivery.send_pending().claimed == 0
    ours = NotificationEvent.objects.filter(pk__in=[event.pk for event in events])
    [tried] = ours.failed()
    assert tried.next_retry_at is not None
    assert tried.next_retry_at > ahead(seconds=590)
    assert ours.pending().filter(retry_count=0).count() == 19  # they have spent nothing


@every_channel
@pytest.mark.parametrize("status", [400, 410])
def test_what_never_will_is_dead_on_that_attempt_and_says_what_to_do(
    channel: Channel, status: int, receiver: HttpReceiver, configure: Configure
) -> None:
    use(channel, receiver, configure)
    receiver.script(Answer(status, "the provider's own words"))
    [event] = rows(channel, 1)
    assert delivery.send_pending().dead == 1
    event.refresh_from_db()
    assert (event.status, event.retry_count, event.next_retry_at) == (Status.DEAD, 0, None)
    assert f"HTTP {status}: the provider's own words: " in str(event.last_error)
    assert "requeue" in str(event.last_error) or "raise" in str(event.last_error)
    assert channel.secret not in str(event.last_error)


@every_channel
def test_a_request_without_an_answer_is_marked_unknown_and_repeated_under_the_same_key(
    channel: Channel, receiver: HttpReceiver, configure: Configure
) -> None:
    use(channel, receiver, configure)
    receiver.script(Answer(drop=True), Answer(channel.status, channel.body))
    [event] = rows(channel, 1)
    assert delivery.send_pending().rescheduled == 1
    assert DeliveryAttempt.objects.get().outcome == "unknown"
    NotificationEvent.objects.update(next_retry_at=ago(seconds=1))
    assert delivery.retry_failed().sent == 1
    keys = [request.headers["Idempotency-Key"] for request in receiver.requests]
    assert keys == [event.pk] * 2
    folds = {PAGERDUTY: "dedup_key", OPSGENIE: "alias"}
    if channel in folds:
        assert [request.json[folds[channel]] for request in receiver.requests] == [event.pk] * 2
    if channel is WEBHOOK:
        assert receiver.ids == [event.pk] * 2


def test_slack_gets_one_message_a_second_unless_told_otherwise(
    receiver: HttpReceiver, configure: Configure
) -> None:
    configure(CHANNELS={"Slack": SLACK.options(receiver.url(SLACK.path))})
    rows(SLACK, 3)
    result = delivery.send_pending()
    assert result.sent == 3
    assert result.as_dict()["seconds"] > 1.8  # the second waits one second, the third two
