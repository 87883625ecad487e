"""A worker that runs for long: what it remembers of endpoints never outlives what the table says."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

import pytest

from tests.processes import eventually
from tests.receiver import Answer, HttpReceiver, Request
from tests.reliability.support import Child, Nursery, Site

ROWS = 12
HELD = "SELECT count(*) FROM notification_holds WHERE reopened_at IS NULL AND until > now()"
HOLDS = """
    SELECT recipient_prefix, exact FROM notification_holds WHERE reopened_at IS NULL ORDER BY recipient_prefix
"""
STATUSES = "SELECT status, count(*) FROM notification_events WHERE recipient = %s GROUP BY status"
SWEEPS = "SELECT count(*) FROM notification_sweeps"
PAST = "UPDATE notification_holds SET until = now() WHERE reopened_at IS NULL"
LATER = "UPDATE notification_holds SET until = now() + interval '1 hour' WHERE reopened_at IS NULL"
RETRY_AFTER = Answer(429, headers={"Retry-After": "3000"})

Repair = Callable[[Site, Nursery, str], None]


class House(HttpReceiver):
    """A host that serves many recipients: each path answers as it is told to, and 200 until then."""

    def __init__(self) -> None:
        super().__init__()
        self.doors: dict[str, int | Answer] = {}
        self.met: Counter[str] = Counter()
        self._lock = threading.Lock()
        self.answer = self._answer

    def _answer(self, request: Request) -> Answer:
        with self._lock:
            self.met[request.path] += 1
        said = self.doors.get(request.path, 200)
        return Answer(said) if isinstance(said, int) else said


def seasoned(site: Site, nursery: Nursery, house: House) -> Child:
    """A worker that delivered to the host's recipients, and swept more than once since."""
    worker = nursery.start()
    for path in ("/refused", "/other"):
        site.insert(3, house.url(path))
    site.all_delivered()
    swept_again(site)
    return worker


def swept_again(site: Site, times: int = 3) -> None:
    before = site.value(SWEEPS)
    eventually(lambda: site.value(SWEEPS) >= before + times, "more sweeps")


def statuses(site: Site, url: str) -> dict[str, int]:
    return dict(site.query(STATUSES, url))


def hold_over(site: Site, nursery: Nursery, url: str) -> None:
    site.query(PAST)


def lifted(site: Site, nursery: Nursery, url: str) -> None:
    number = site.value("SELECT id FROM notification_holds WHERE reopened_at IS NULL")
    told = nursery.start("notifications", "lift", str(number))
    assert told.wait() == 0, told.said


def proved(site: Site, nursery: Nursery, url: str) -> None:
    tried = nursery.start("notifications", "test", "Webhook", url)
    assert tried.wait() == 0, tried.said


@pytest.mark.parametrize(
    ("refusal", "repair"),
    [(401, hold_over), (410, hold_over), (403, hold_over), (403, lifted), (403, proved)],
)
def test_what_waits_behind_a_refusal_is_delivered_once_the_hold_ends(
    refusal: int, repair: Repair, site: Site, nursery: Nursery
) -> None:
    with House() as house:
        url, worker = house.url("/refused"), seasoned(site, nursery, house)
        house.doors["/refused"] = refusal
        site.insert(1, url)
        eventually(lambda: site.value(HELD) == 1, "a hold")
        assert site.query(HOLDS) == [(url, True)]
        asked = house.met["/refused"]
        site.insert(ROWS, url)
        site.insert(ROWS, house.url("/other"))
        eventually(lambda: statuses(site, house.url("/other")) == {"sent": 3 + ROWS}, "the host's others")
        swept_again(site)
        assert house.met["/refused"] == asked, "sent to although it is held"
        assert statuses(site, url) == {"sent": 3, "dead": 1, "pending": ROWS}

        del house.doors["/refused"]
        requeued = nursery.start("notifications", "requeue", "--all", "--yes")
        assert requeued.wait() == 0, requeued.said
        repair(site, nursery, url)
        eventually(lambda: statuses(site, url) == {"sent": 3 + 1 + ROWS}, "all of them delivered", 30)
        assert worker.end() == 0
        assert "Traceback" not in worker.said


def test_a_probe_that_is_refused_again_and_again_opens_the_door_in_the_end(
    site: Site, nursery: Nursery
) -> None:
    """The rows that probed and were refused are dead; requeued, they go out as well."""
    with House() as house:
        url, worker = house.url("/refused"), seasoned(site, nursery, house)
        house.doors["/refused"] = 403
        site.insert(1, url)
        eventually(lambda: site.value(HELD) == 1, "a hold")
        site.insert(ROWS, url)
        for times in (2, 3, 4):
            asked = house.met["/refused"]
            site.query(PAST)
            eventually(
                lambda times=times: site.value("SELECT max(failures) FROM notification_holds") >= times,
                f"held {times} times",
            )
            swept_again(site)
            assert house.met["/refused"] == asked + 1, "one probe each"
        assert statuses(site, url)["dead"] == 1, "a failed probe costs its row nothing"
        del house.doors["/refused"]
        assert nursery.start("notifications", "requeue", "--all", "--yes").wait() == 0
        site.query(PAST)
        # Those that probed wait for the end of the hold that they brought about.
        site.query("UPDATE notification_events SET next_retry_at = now() WHERE status = 'failed'")
        eventually(
            lambda: sum(statuses(site, url).values()) == statuses(site, url).get("sent"), "all of them", 30
        )
        assert worker.end() == 0


@pytest.mark.parametrize("fault", [RETRY_AFTER, Answer(500)], ids=["429 with Retry-After", "five 500s"])
def test_one_recipients_fault_holds_that_recipient_only(fault: Answer, site: Site, nursery: Nursery) -> None:
    with House() as house:
        url, worker = house.url("/refused"), seasoned(site, nursery, house)
        others = [house.url(f"/tenant-{n}") for n in range(20)]
        for other in others:
            site.insert(1, other)
        site.all_delivered()
        house.doors["/refused"] = fault
        site.insert(ROWS, url)
        eventually(lambda: site.value(HELD) == 1, "a hold")
        assert site.query(HOLDS) == [(url, True)]
        site.query(LATER)
        asked = house.met["/refused"]
        for other in others:
            site.insert(1, other)
        for other in others:
            eventually(lambda other=other: statuses(site, other) == {"sent": 2}, "another recipient")
        assert site.query(HOLDS) == [(url, True)]
        assert house.met["/refused"] == asked
        assert worker.end() == 0


@pytest.mark.parametrize("fault", [RETRY_AFTER, Answer(500)], ids=["429 with Retry-After", "500s"])
def test_a_host_is_held_when_several_of_its_recipients_fail(
    fault: Answer, site: Site, nursery: Nursery
) -> None:
    with House() as house:
        worker = seasoned(site, nursery, house)
        urls = [house.url(f"/tenant-{n}") for n in range(20)]
        for n in range(20):
            house.doors[f"/tenant-{n}"] = fault
        for url in urls:
            site.insert(2, url)
        host = (house.url("/"), False)
        eventually(lambda: host in site.query(HOLDS), "a hold of the host")
        site.query(LATER)
        site.insert(1, house.url("/other"))
        asked = house.met.total()
        swept_again(site)
        assert house.met.total() == asked, "its other recipients wait as well"
        assert statuses(site, house.url("/other")) == {"sent": 3, "pending": 1}
        house.doors.clear()
        site.query(PAST)
        eventually(lambda: statuses(site, house.url("/other")) == {"sent": 4}, "it delivers again", 30)
        assert worker.end() == 0
