"""What a site's own constraints and triggers may do to a running worker."""

from __future__ import annotations

from collections import Counter

from tests.processes import eventually
from tests.receiver import HttpReceiver
from tests.reliability.support import Nursery, Site

UNTOUCHABLE = """
    ALTER TABLE notification_events ADD CONSTRAINT sane CHECK (message <> 'certificate 1 expires') NOT VALID
"""
RECORDED = "SELECT count(*) FROM notification_events WHERE id = ANY(%s) AND status = 'sent'"
GOOD = """
    INSERT INTO notification_events (id, type, channel, recipient, message)
    SELECT gen_random_uuid()::text, 'ExpirationWarning', 'Webhook', %s, 'good'
      FROM generate_series(1, %s) RETURNING id
"""
REFUSED = "SELECT notification_id, verb FROM notification_refusals"


def test_a_row_that_a_constraint_keeps_from_being_claimed_stops_no_other(
    site: Site, nursery: Nursery
) -> None:
    """It is older than the constraint, which is not checked of rows that are there already."""
    with HttpReceiver() as receiver:
        [odd] = site.insert(1, receiver.url())
        site.query(UNTOUCHABLE)
        ids = {pk for (pk,) in site.query(GOOD, receiver.url(), 20)}
        worker = nursery.start()
        eventually(lambda: site.value(RECORDED, list(ids)) == 20, "all others are recorded")
        eventually(lambda: site.query(REFUSED) == [(odd, "claim")], "what was refused is on record")
        ids |= {pk for (pk,) in site.query(GOOD, receiver.url(), 20)}
        eventually(lambda: site.value(RECORDED, list(ids)) == 40, "new ones too")
        assert worker.end() == 0
        arrived = Counter(receiver.ids)
    assert arrived == dict.fromkeys(ids, 1)
    assert "Traceback" not in worker.said
