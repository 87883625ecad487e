"""What is renewed while a worker has it in hand is withdrawn, unless its attempt has begun."""

from __future__ import annotations

import pytest

from notifications.models import DeliveryAttempt, NotificationEvent, NotificationQuerySet
from tests.breakage import refused_rows
from tests.engine.delivering import AT_ONCE, Beside, deliver_patiently, lost_once
from tests.factories import pending
from tests.fixtures import Configure
from tests.processes import eventually
from tests.receiver import HttpReceiver
from tests.renewals import about, alerts_in_line, certificate, renew

pytestmark = pytest.mark.django_db(transaction=True)
EVENTS = NotificationEvent.objects
COUNT = 12  # alerts in hand


def lose_an_answer(patch: pytest.MonkeyPatch) -> None:
    batch = lost_once(NotificationQuerySet.withdraw_batch)
    patch.setattr(NotificationQuerySet, "withdraw_batch", lambda *args, **options: batch(*args, **options))


@pytest.mark.parametrize("heard", [True, False])
def test_what_waits_for_its_turn_is_withdrawn_and_what_is_under_way_arrives(
    slow: HttpReceiver, beside: Beside, monkeypatch: pytest.MonkeyPatch, heard: bool
) -> None:
    """Also where the answer to the withdrawal is lost on its way."""
    old = certificate()
    for _ in range(COUNT):
        about(old)

    def meanwhile() -> None:
        if not heard:
            lose_an_answer(monkeypatch)
        renew(old)
        eventually(lambda: EVENTS.filter(status="read").count() == COUNT - AT_ONCE, "withdrawals")

    happens = beside(meanwhile)
    result = deliver_patiently()
    happens.result()
    assert len(slow.requests) == AT_ONCE == DeliveryAttempt.objects.count()
    assert EVENTS.filter(status="sent", leased_until=None).count() == AT_ONCE
    assert EVENTS.filter(status="read", leased_until=None).count() == COUNT - AT_ONCE
    assert (result.sent, result.withdrawn) == (AT_ONCE, COUNT - AT_ONCE if heard else 0)


def test_where_nothing_is_to_be_withdrawn_all_arrive(beside: Beside, configure: Configure) -> None:
    configure(WITHDRAW_RENEWED=False)
    old = certificate()
    for _ in range(COUNT):
        about(old)
    happens = beside(lambda: renew(old))
    assert deliver_patiently().sent == COUNT
    happens.result()


def test_what_a_claim_withdrew_without_hearing_of_it_is_not_sent(
    webhook: HttpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = certificate()
    event = about(old)
    renew(old)
    lose_an_answer(monkeypatch)
    assert deliver_patiently().sent == 0
    event.refresh_from_db()
    assert (event.status, event.leased_until, webhook.requests) == ("read", None, [])


def test_one_that_the_database_lets_nobody_withdraw_keeps_its_turn(
    slow: HttpReceiver, beside: Beside
) -> None:
    old, alerts = alerts_in_line(COUNT)
    after = pending()
    odd = alerts[-2]

    def meanwhile() -> None:
        renew(old)
        eventually(lambda: EVENTS.filter(status="read").count() == COUNT - AT_ONCE - 1, "withdrawals")

    with refused_rows(f"NEW.status = 'read' AND NEW.id = '{odd.pk}'", event="UPDATE"):
        happens = beside(meanwhile)
        result = deliver_patiently()
        happens.result()
    assert slow.ids[AT_ONCE:] == [odd.pk, after.pk]
    assert (result.withdrawn, result.released) == (COUNT - AT_ONCE - 1, 0)
