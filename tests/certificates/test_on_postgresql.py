"""Where PostgreSQL's own rules matter: certctl's foreign key, texts it refuses, two that record at once."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from django.db import connection

from notifications.certificates.claims import claim, claim_these
from notifications.certificates.models import Raised, Sighting, Watch
from notifications.certificates.readings import Reading, Seen
from notifications.certificates.record import record
from tests.certificates.authority import NOW, Authority
from tests.certificates.support import alerts, days, look, seen, watch

CA = Authority()
A, B = CA.issue("www.example.com", since=NOW), CA.issue("www.example.com", since=NOW + days(1))


@pytest.mark.django_db
def test_where_certctls_certificates_are_meant_ours_is_none_of_them() -> None:
    """Its database has a foreign key there."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE managed_certificates (id text PRIMARY KEY)")
        cursor.execute(
            "ALTER TABLE notification_events ADD CONSTRAINT theirs FOREIGN KEY (certificate_id)"
            " REFERENCES managed_certificates (id)"
        )
    look(NOW + days(61), (watch(), seen(NOW + days(61), A)))
    [event] = alerts()
    assert event.certificate_id is None
    assert Raised.objects.get().event == event.pk


@pytest.mark.django_db
def test_one_targets_fault_is_its_own() -> None:
    """What the database refuses is found, whichever it is."""
    good, bad = watch(), watch("bad.example.com")
    broken = Reading((Seen("a place\x00", seen(NOW, B).seen[0].facts),))
    look(NOW, (bad, broken), (good, seen(NOW, A)))
    good.refresh_from_db()
    bad.refresh_from_db()
    assert (good.problem, bad.problem) == ("", "the database cannot hold what was read there")
    assert [row.watch for row in Sighting.objects.all()] == [good]


def at_once(*work: Callable[[], object]) -> list[object]:
    """What each answers, begun together in threads with connections of their own."""
    start, answers = threading.Barrier(len(work)), list[object]()

    def run(one: Callable[[], object]) -> None:
        try:
            start.wait(20)
            answers.append(one())
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=[one]) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(answers) == len(work)
    return answers


@pytest.mark.django_db(transaction=True)
def test_of_many_workers_one_looks_at_a_target() -> None:
    for n in range(40):
        watch(f"host-{n}.example.com")
    Watch.objects.update(next_check_at=NOW)
    claimed = at_once(*(lambda: [one.pk for one in claim(NOW, "here", 20)] for _ in range(6)))
    taken = [pk for part in claimed for pk in part]  # type: ignore[attr-defined]
    assert len(taken) == len(set(taken))
    while more := claim(NOW, "here", 20):
        taken += [one.pk for one in more]
    assert sorted(taken) == sorted(Watch.objects.values_list("pk", flat=True))


@pytest.mark.django_db(transaction=True)
def test_what_many_see_at_once_is_raised_once() -> None:
    """One certificate at six endpoints, recorded by six at the same time."""
    now, watches = NOW + days(61), [watch(f"host-{n}.example.com") for n in range(6)]
    claimed = [claim_these([one.pk], now)[0] for one in watches]
    at_once(*(lambda one=one: record([(one, seen(now, A, place=one.target))], now) for one in claimed))
    assert len(alerts()) == 1
    assert Raised.objects.count() == 1
    assert Sighting.objects.count() == 6
