"""Renewed and not reloaded: where the file's watch says which endpoints serve it."""

from __future__ import annotations

import ssl
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.db.models import JSONField, Value
from django.test.utils import CaptureQueriesContext

from notifications.certificates.models import Certificate, Sighting, Watch, served_by
from notifications.certificates.readings import Reading, Seen
from notifications.models import NotificationEvent
from tests.certificates.authority import NOW, Authority, Issued
from tests.certificates.servers import Servers
from tests.certificates.support import TO, alerts, days, look, look_really, seen, watch

pytestmark = pytest.mark.django_db
CA = Authority()
A = CA.issue("shop.example.com", since=NOW)  # until 90 days later
B = CA.issue("shop.example.com", "example.com", since=NOW + days(30))
C = CA.issue("shop.example.com", since=NOW + days(50))
MAIL = CA.issue("mail.example.com", since=NOW + days(40))
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
ENDPOINT, FILE = "shop.example.com:443", "/etc/ssl/shop.pem"
START = NOW + days(51)


def told() -> list[tuple[str, str]]:
    """Whom of which file, in order."""
    return [
        (event.recipient, event.message.partition(", and ")[2].partition(" is valid")[0])
        for event in alerts(type="DeploymentFailure")
    ]


def held(now: datetime, **files: Issued) -> Reading:
    """In a folder's files, by their names."""
    found = [
        one for name, each in files.items() for one in seen(now, each, place=f"/etc/ssl/{name}.pem").seen
    ]
    return Reading(tuple(found))


def together(files: Reading, shown: Issued, **fields: Any) -> list[tuple[str, str]]:
    """Whom is told where an endpoint and the files that it serves are looked at, and again after an hour."""
    endpoint, kept = watch(ENDPOINT), watch("/etc/ssl", served_by=[ENDPOINT], **fields)
    for now in (START, START + HOUR):
        look(now, (endpoint, seen(now, shown, place=ENDPOINT)), (kept, files))
    return told()


# With servers


@pytest.fixture
def serving(servers: Servers, tmp_path: Path) -> tuple[list[ssl.SSLContext], str]:
    """(the contexts, whose first is what is served; the endpoint)."""
    contexts = [A.context(tmp_path)]
    return contexts, f"127.0.0.1:{servers.reloading(contexts)}"


@pytest.mark.parametrize("first", ["endpoint", "file", "both"])
@pytest.mark.parametrize("named", [True, False])
def test_a_file_that_held_the_newer_one_from_the_beginning(
    named: bool, first: str, serving: tuple[list[ssl.SSLContext], str], tmp_path: Path
) -> None:
    """Whoever is looked at first: an hour after the file the endpoint is, and what it shows is told of."""
    contexts, target = serving
    (tmp_path / "shop.pem").write_bytes(B.chain)
    endpoint = watch(target)
    kept = watch(str(tmp_path / "shop.pem"), served_by=[target] if named else [], notify=["Slack:#files"])
    pair = {"endpoint": [endpoint, kept], "file": [kept, endpoint]}
    if first == "both":
        look_really(START, endpoint, kept)
    else:
        for n, one in enumerate(pair[first]):
            look_really(START + n * MINUTE, one)
    seen_at = kept.sightings.get().first_seen
    endpoint.refresh_from_db()
    assert (endpoint.next_check_at == seen_at + HOUR + MINUTE) == named
    look_really(seen_at + HOUR - MINUTE, endpoint, kept)
    assert told() == []
    for hours in (1, 2, 14, 30):
        look_really(seen_at + hours * HOUR, endpoint)
        look_really(seen_at + hours * HOUR, kept)
    assert told() == [("#pki", kept.target)] * named
    contexts[0] = B.context(tmp_path)
    for hours in (40, 60):
        look_really(seen_at + hours * HOUR, endpoint, kept)
    assert told() == [("#pki", kept.target)] * named


def test_what_is_reloaded_meanwhile_is_told_to_nobody(
    serving: tuple[list[ssl.SSLContext], str], tmp_path: Path
) -> None:
    """What the endpoint showed hours ago is no evidence: it is looked at before anybody is told."""
    contexts, target = serving
    (tmp_path / "shop.pem").write_bytes(B.chain)
    endpoint, kept = watch(target), watch(str(tmp_path / "shop.pem"))
    look_really(START, endpoint, kept)
    look_really(START + 3 * HOUR, endpoint)
    Watch.objects.filter(pk=kept.pk).update(served_by=[target])
    contexts[0] = B.context(tmp_path)
    look_really(START + 4 * HOUR, kept)
    endpoint.refresh_from_db()
    assert endpoint.next_check_at == START + 4 * HOUR + 16 * MINUTE
    look_really(endpoint.next_check_at, endpoint)
    assert told() == []


def test_seen_before_and_named_is_told_once(
    serving: tuple[list[ssl.SSLContext], str], tmp_path: Path
) -> None:
    _, target = serving
    (tmp_path / "shop.pem").write_bytes(A.chain)
    endpoint, kept = watch(target), watch(str(tmp_path / "shop.pem"), served_by=[target])
    look_really(START, endpoint, kept)
    (tmp_path / "shop.pem").write_bytes(B.chain)
    for hours in (1, 2, 3, 4):
        look_really(START + hours * HOUR, endpoint, kept)
    assert told() == [("#pki", kept.target)]
    # And once more where it is renewed once more.
    (tmp_path / "shop.pem").write_bytes(C.chain)
    for hours in (5, 6, 7):
        look_really(START + hours * HOUR, endpoint, kept)
    assert told() == [("#pki", kept.target)] * 2


# When it is known


def show(now: datetime, *shown: tuple[Watch, Issued]) -> None:
    look(now, *((one, seen(now, issued, place=one.target)) for one, issued in shown))


def pair(named: bool = True) -> tuple[Watch, Watch]:
    """(an endpoint, the file that it serves)."""
    return watch(ENDPOINT), watch(FILE, served_by=[ENDPOINT] if named else [])


def due(*watches: Watch) -> list[datetime]:
    found = dict(Watch.objects.values_list("pk", "next_check_at"))
    return [found[one.pk] for one in watches]


@pytest.mark.parametrize("named", [True, False])
def test_file_and_server_are_rolled_back_and_the_server_is_looked_at_first(named: bool) -> None:
    endpoint, kept = pair(named)
    show(START, (endpoint, A), (kept, A))
    show(START + 2 * HOUR, (endpoint, B), (kept, B))
    back = START + 13 * HOUR
    show(back, (endpoint, A))
    assert due(endpoint, kept) == [back + 16 * MINUTE] * 2
    show(back + 16 * MINUTE, (kept, A))
    show(back + 17 * MINUTE, (endpoint, A))
    assert told() == []
    # The server alone: the next look at both tells.
    show(back + 2 * HOUR, (endpoint, B), (kept, B))
    show(back + 4 * HOUR, (endpoint, A))
    show(back + 4 * HOUR + 16 * MINUTE, (kept, B))
    show(back + 4 * HOUR + 17 * MINUTE, (endpoint, A))
    assert told() == [("#pki", FILE)]


@pytest.mark.parametrize("named", [True, False])
def test_what_a_file_held_hours_ago_is_no_evidence(named: bool) -> None:
    """The server could not be read for hours; meanwhile the file was rolled back."""
    endpoint, kept = pair(named)
    show(START, (endpoint, A), (kept, A))
    for hours in (1, 2.5, 3):
        look(START + hours * HOUR, (endpoint, Reading(problem="no connection")))
        if hours < 3:
            show(START + hours * HOUR, (kept, B))
    again = START + 4 * HOUR
    show(again, (endpoint, A))
    assert told() == []
    assert due(endpoint, kept) == [again + 16 * MINUTE] * 2
    show(again + 16 * MINUTE, (kept, B))
    show(again + 17 * MINUTE, (endpoint, A))
    assert told() == [("#pki", FILE)]


def test_a_file_is_not_looked_at_again_and_again_while_its_server_is_away() -> None:
    endpoint, kept = pair()
    show(START, (endpoint, A), (kept, A))
    for hours in (1, 2.5, 14.5):
        look(START + hours * HOUR, (endpoint, Reading(problem="no connection")))
        show(START + hours * HOUR, (kept, B))
    assert due(kept) == [START + 26.5 * HOUR]


@pytest.mark.parametrize("named", [True, False])
def test_an_endpoint_waits_for_no_file_that_nobody_looks_at(named: bool) -> None:
    endpoint, kept = pair(named)
    show(START, (endpoint, A), (kept, A))
    show(START + HOUR, (kept, B))
    at, soon = START + 2 * HOUR, 0
    for _ in range(20):
        show(at, (endpoint, A))
        [following] = due(endpoint)
        soon += following - at < HOUR
        at = following
    assert soon <= 6
    look(at, (kept, Reading(problem="no such file")))
    show(at + MINUTE, (endpoint, A))
    assert due(endpoint)[0] - at > HOUR
    assert told() == []
    show(at + HOUR, (kept, B))
    show(at + 2 * HOUR, (endpoint, A))
    assert told() == [("#pki", FILE)]


@pytest.mark.parametrize("named", [True, False])
def test_a_new_one_that_was_gone_and_is_there_again_has_its_hour_anew(named: bool) -> None:
    endpoint, kept = pair(named)
    for hours, held in ((0, A), (1, B), (1.5, A), (48, B)):
        show(START + hours * HOUR, (endpoint, A), (kept, held))
    assert told() == []
    assert due(endpoint, kept) == [START + 49 * HOUR + MINUTE] * 2
    show(START + 49 * HOUR + MINUTE, (endpoint, A), (kept, B))
    assert told() == [("#pki", FILE)]


@pytest.mark.parametrize("current", [True, False])
def test_what_is_on_record_from_before_is_so_since_it_was_seen(current: bool) -> None:
    """Rows that are older than the column, or of a worker that knows nothing of it."""
    endpoint, kept = pair()
    show(START, (endpoint, A), (kept, B if current else A))
    Sighting.objects.update(since=None)
    show(START + MINUTE, (endpoint, A), (kept, B))
    show(START + HOUR, (endpoint, A), (kept, B))
    assert bool(told()) == current
    show(START + HOUR + MINUTE, (endpoint, A), (kept, B))
    assert told() == [("#pki", FILE)]


def test_a_file_that_was_away_for_a_look() -> None:
    """It is known still what it held before."""
    endpoint, kept = pair(named=False)
    show(START, (endpoint, A), (kept, A))
    look(START + HOUR, (kept, Reading()))
    show(START + HOUR + MINUTE, (kept, B))
    assert due(endpoint, kept) == [START + 2 * HOUR + 2 * MINUTE] * 2
    show(START + 2 * HOUR + 2 * MINUTE, (endpoint, A), (kept, B))
    assert told() == [("#pki", FILE)]


def test_a_renewal_that_ends_sooner_is_no_older_certificate() -> None:
    """A file went from 90 days to six, and the server, which was reloaded, is looked at first."""
    short = CA.issue("shop.example.com", since=NOW + days(51), until=NOW + days(57))
    endpoint, kept = pair()
    show(START, (endpoint, A), (kept, A))
    show(START + 6 * HOUR, (endpoint, short))
    show(START + 6 * HOUR + MINUTE, (kept, A))
    for _ in range(3):
        show(START + 7 * HOUR, (endpoint, short), (kept, A))
    assert told() == []


def test_each_endpoint_is_told_of_and_those_of_one_round_together() -> None:
    """Each has to be reloaded: also that which is found later, when the first one is."""
    endpoints = [watch(f"host-{n}.example.com:443") for n in range(4)]
    kept = watch(FILE)
    show(START, (kept, A), *((one, A) for one in endpoints))
    show(START + HOUR, (kept, B))
    late = START + 2 * HOUR + MINUTE
    show(late, (kept, B), *((one, A) for one in endpoints[:2]))
    show(late + MINUTE, (endpoints[0], B), (endpoints[1], A), (endpoints[2], A))
    for hours in (12, 24):
        show(late + hours * HOUR, (kept, B), *((one, A) for one in endpoints[2:]))
    first, second, third = (event.message for event in alerts(type="DeploymentFailure"))
    assert first.startswith(
        "At 2 places a certificate was renewed and not reloaded.\n\n- shop.example.com was"
    )
    assert [place in first for place in ("host-0", "host-1", "host-2")] == [True, True, False]
    assert "host-2" in second
    assert "host-3" in third


@pytest.mark.parametrize(("reloaded", "again"), [(3, 1), (10, 2)])
def test_what_was_reloaded_and_is_back_later_is_told_again(reloaded: int, again: int) -> None:
    """After ten looks; sooner, two servers that are asked in turn would be told of again and again."""
    endpoint, kept = pair()
    other = watch("other.example.com", notify=["Slack:#other"])
    shown = [A] * 3 + [B] * reloaded + [A] * 3
    for hours, issued in enumerate(shown):
        show(START + hours * HOUR, (endpoint, issued), (other, A), (kept, B if hours else A))
    assert sorted(told()) == [("#other", FILE)] + [("#pki", FILE)] * again


# What files hold


@pytest.mark.parametrize(
    ("files", "shown", "of"),
    [
        ({"shop": B}, A, "shop"),
        ({"shop": A}, B, ""),  # the file is what is old
        ({"shop": A}, A, ""),
        ({"mail": MAIL}, A, ""),  # no name in common
        ({"shop": B, "mail": MAIL}, A, "shop"),
        ({"shop": B, "mail": MAIL}, B, ""),
        ({"shop": A, "shop_ecc": B}, A, ""),  # RSA beside EC: what is shown is in step
        ({"shop": B, "shop_ecc": C}, A, "shop_ecc"),  # of several, one alert: the last to end
        ({"shop": B, "shop_ecc": C}, CA.issue("shop.example.com", "example.com", since=NOW), "shop"),
        ({}, A, ""),
    ],
)
def test_what_is_newer_for_a_name_of_the_same(files: dict[str, Issued], shown: Issued, of: str) -> None:
    assert together(held(START, **files), shown) == ([("#pki", f"/etc/ssl/{of}.pem")] if of else [])


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize(
    ("first", "then"),
    [
        ({"shop": (A, B)}, {"shop": (B,), "shop_ecc": (A,)}),  # RSA and EC, then each in its own
        ({"one": (A,), "two": (B,)}, {"one": (B,), "two": (A,)}),
        ({"shop": (A,), "old": (A,)}, {"shop": (B,), "old": (A,)}),  # an old copy beside the new file
    ],
)
def test_what_is_shown_is_in_step_while_a_file_holds_it(
    first: dict[str, tuple[Issued]], then: dict[str, tuple[Issued]], named: bool
) -> None:
    endpoint, kept = watch(ENDPOINT), watch("/etc/ssl", served_by=[ENDPOINT] if named else [])
    for hours, files in enumerate((first, then, then, then)):
        now = START + hours * HOUR
        places = [seen(now, *each, place=f"/etc/ssl/{name}.pem") for name, each in files.items()]
        held_now = Reading(tuple(one for place in places for one in place.seen))
        look(now, (endpoint, seen(now, A, place=ENDPOINT)), (kept, held_now))
    assert told() == []


@pytest.mark.parametrize("named", [True, False])
def test_a_strangers_file_with_the_same_wildcard_is_none_of_the_endpoints(named: bool) -> None:
    """It was replaced there; and the file that is served still holds it."""
    wild = CA.issue("*.example.com", "example.com", since=NOW)
    other = CA.issue("example.com", "www.example.com", since=NOW + days(30))
    endpoints = [watch(f"host-{n}.example.com:443") for n in range(5)]
    kept = watch(FILE, served_by=[one.target for one in endpoints] if named else [])
    stranger = watch("/srv/other.pem", host="other")
    for hours in range(4):
        shown = [(one, wild) for one in (*endpoints, kept)]
        show(START + hours * HOUR, *shown, (stranger, other if hours else wild))
    assert told() == []


@pytest.mark.parametrize("still", ["named", "stranger"])
def test_whose_file_still_holds_it_is_decided_by_those_that_name_the_endpoint(still: str) -> None:
    endpoint, kept = pair()
    copy = watch("/srv/copy.pem", served_by=[ENDPOINT] if still == "named" else [])
    for hours in range(4):
        show(START + hours * HOUR, (endpoint, A), (kept, B if hours else A), (copy, A))
    assert told() == [("#pki", FILE)] * (still == "stranger")


def test_a_file_with_several_certificates_is_served_with_any_of_them() -> None:
    assert together(seen(START, A, C, place="/etc/ssl/both.pem"), A) == []


def test_nodes_with_certificates_of_their_own_for_one_name_cry_no_wolf() -> None:
    """Behind a balancer, and the files of both say so: whichever is shown is held by one of them."""
    endpoint = watch(ENDPOINT)
    nodes = [watch(f"/srv/{n}/shop.pem", served_by=[ENDPOINT]) for n in range(2)]
    for hours in range(6):
        now = START + hours * HOUR
        files = [seen(now, one, place=node.target) for node, one in zip(nodes, (A, B), strict=True)]
        look(now, (endpoint, seen(now, (A, B)[hours % 2])), *zip(nodes, files, strict=True))
    assert told() == []
    # One of them is renewed, and its node goes on with the old one.
    for hours in range(6, 9):
        now = START + hours * HOUR
        look(now, (nodes[0], seen(now, C, place=nodes[0].target)), (endpoint, seen(now, A)))
    assert told() == [("#pki", "/srv/0/shop.pem")]


@pytest.mark.parametrize(
    ("endpoints", "files", "whom"),
    [
        (["Slack:#web"], ["Slack:#files"], ["#web"]),
        (["Slack:#web"], [], ["#web"]),
        ([], ["Slack:#files", "Slack:#pki"], ["#files", "#pki"]),
        ([], [], []),
    ],
)
@pytest.mark.parametrize("named", [True, False])
def test_whom_the_endpoint_tells_and_else_whom_the_file_does(
    endpoints: list[str], files: list[str], whom: list[str], named: bool
) -> None:
    endpoint = watch(ENDPOINT, notify=endpoints)
    kept = watch(FILE, served_by=[ENDPOINT] if named else [], notify=files)
    look(START, (endpoint, seen(START, A)), (kept, seen(START, A, place=FILE)))
    for hours in (1, 2):
        now = START + hours * HOUR
        look(now, (kept, seen(now, B, place=FILE)), (endpoint, seen(now, A)))
    assert sorted(told()) == [(to, FILE) for to in whom]


def test_a_file_that_is_gone_and_an_endpoint_that_cannot_be_read_raise_nothing() -> None:
    endpoint, kept = watch(ENDPOINT), watch(FILE, served_by=[ENDPOINT])
    look(START, (endpoint, seen(START, A)), (kept, seen(START, B, place=FILE)))
    later = START + 2 * HOUR
    look(later, (endpoint, Reading(problem="no connection")), (kept, seen(later, B, place=FILE)))
    assert told() == []
    look(later + HOUR, (kept, Reading()), (endpoint, seen(later, A)))
    assert told() == []


def test_a_look_within_the_hour_is_followed_by_one_after_it() -> None:
    """Also where nothing is named: whoever looks by hand in between puts nothing off."""
    endpoint, kept = watch(ENDPOINT), watch(FILE)
    look(START, (endpoint, seen(START, A)), (kept, seen(START, A, place=FILE)))
    look(START + HOUR, (kept, seen(START, B, place=FILE)))
    look(START + 1.5 * HOUR, (endpoint, seen(START, A)))
    endpoint.refresh_from_db()
    assert endpoint.next_check_at == START + 2 * HOUR + MINUTE


def test_an_endpoint_that_somebody_looks_at_keeps_its_claim() -> None:
    from notifications.certificates.claims import claim_these
    from notifications.certificates.record import record

    endpoint, kept = watch(ENDPOINT), watch(FILE, served_by=[ENDPOINT])
    look(START, (endpoint, seen(START, A)), (kept, seen(START, B, place=FILE)))
    now = START + 2 * HOUR
    [claimed] = claim_these([endpoint.pk], now)
    look(now, (kept, seen(now, B, place=FILE)))
    record([(claimed, seen(now, A))], now)
    assert told() == [("#pki", FILE)]


@pytest.mark.parametrize("odd", ["shop.example.com:443", {ENDPOINT: 1}, [None, 5, ["x"]], 5, None, True])
def test_what_another_program_wrote_there_names_nothing_and_stops_no_round(odd: Any) -> None:
    endpoint, kept = watch(ENDPOINT), watch(FILE)
    Watch.objects.filter(pk=kept.pk).update(served_by=Value(odd, JSONField()))
    for now in (START, START + HOUR):
        look(now, (endpoint, seen(now, A)), (kept, seen(now, B, place=FILE)))
    assert told() == []
    assert Watch.objects.filter(problem="", checked_at=START + HOUR).count() == 2


@pytest.mark.parametrize("odd", [7, "Slack:#pki", {"Slack:#pki": 1}, [5, None], None, True])
def test_whom_to_tell_as_another_program_wrote_it_stops_no_endpoint(odd: Any) -> None:
    endpoint, kept = watch(ENDPOINT, notify=[]), watch(FILE, served_by=[ENDPOINT])
    Watch.objects.filter(pk=kept.pk).update(notify=Value(odd, JSONField()))
    for now in (START, START + HOUR, START + 2 * HOUR):
        show(now, (endpoint, A), (kept, B))
    assert told() == []
    assert Watch.objects.filter(problem="", checked_at=START + 2 * HOUR).count() == 2


@pytest.mark.parametrize("column", ["served_by", "notify"])
def test_half_a_character_that_another_program_wrote_stops_nothing(column: str) -> None:
    endpoint, kept = watch(ENDPOINT, notify=[]), watch(FILE, served_by=[ENDPOINT])
    # PostgreSQL's JSON has no half characters; what is not printable is no more than these.
    odd = "Slack:\x07" if connection.vendor == "postgresql" else "Slack:\ud800"
    good = {"served_by": ENDPOINT, "notify": "Slack:#pki"}[column]
    Watch.objects.filter(pk=kept.pk).update(**{column: Value([odd, good], JSONField())})
    for now in (START, START + HOUR):
        show(now, (endpoint, A), (kept, B))
    assert told() == [("#pki", FILE)]
    assert Watch.objects.filter(problem="", checked_at=START + HOUR).count() == 2


def test_no_more_is_read_of_what_another_program_wrote_than_may_be_there() -> None:
    many = [f"host-{n}.example.com:443" for n in range(1000)]
    odd = Watch(target=FILE, served_by=["x" * 501, *many], notify=["Slack:" + "x" * 1000, *TO * 1000])
    assert odd.endpoints == many[:19]
    assert odd.tells == TO * 19


# What it costs


def queries(*looked: tuple[Watch, Reading], now: datetime) -> int:
    with CaptureQueriesContext(connection) as captured:
        look(now, *looked)
    return len(captured)


@pytest.mark.parametrize("side", ["endpoints", "files", "both"])
def test_the_number_of_queries_grows_neither_with_the_watches_nor_with_the_history(side: str) -> None:
    def round_of(number: int, renewals: int) -> int:
        Watch.objects.all().delete()
        Certificate.objects.all().delete()
        NotificationEvent.objects.all().delete()
        issued = [CA.issue("shop.example.com", since=NOW + days(40 + n)) for n in range(renewals)]
        targets = [f"host-{n}.example.com:443" for n in range(number)]
        endpoints = [watch(target) for target in targets]
        files = [watch(f"/etc/{target}.pem", served_by=[target]) for target in targets]
        for n, one in enumerate(issued):
            at = START + n * HOUR
            look(
                at,
                *((watch, seen(at, one, place=watch.target)) for watch in files),
                *((watch, seen(at, A, place=watch.target)) for watch in endpoints),
            )
        asked = {"endpoints": endpoints, "files": files, "both": endpoints + files}[side]
        later = START + days(3)
        return queries(
            *((one, seen(later, issued[-1] if one in files else A, place=one.target)) for one in asked),
            now=later,
        )

    assert round_of(12, 6) == round_of(2, 2)


def test_whoever_names_nothing_pays_one_query() -> None:
    """For each round, however many endpoints it has."""
    endpoints = [watch(f"host-{n}.example.com") for n in range(10)]
    look(START, *((one, seen(START, A, place=one.target)) for one in endpoints))
    now = START + days(1)
    with CaptureQueriesContext(connection) as captured:
        look(now, *((one, seen(now, A, place=one.target)) for one in endpoints))
    named = [query["sql"] for query in captured if "served_by" in query["sql"].partition(" WHERE ")[2]]
    assert len(named) == 1


def test_who_names_an_endpoint_is_found_by_an_index() -> None:
    named = watch(FILE, served_by=[ENDPOINT, "www.example.com"])
    for n in range(20):
        watch(f"/etc/ssl/{n}.pem", served_by=["other.example.com"] if n % 2 else [])
    assert list(served_by(["www.example.com:443", "none.example.com:443"])) == [named]
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL enable_seqscan = off")
    assert "idx_notification_watches_served" in served_by([ENDPOINT]).order_by().explain()


def test_a_place_is_a_files_own() -> None:
    """What another file of the folder held before is no evidence for this one."""
    endpoint, kept = watch(ENDPOINT), watch("/etc/ssl")
    facts = seen(START, A).seen[0].facts
    look(START, (endpoint, seen(START, A)), (kept, Reading((Seen("/etc/ssl/a.pem", facts),))))
    for hours in (1, 2):
        look(START + hours * HOUR, (kept, held(START, b=B)), (endpoint, seen(START, A)))
    assert told() == []


def test_two_addresses_that_alternate_are_no_file_that_was_not_reloaded() -> None:
    one, other = watch("192.0.2.1:443"), watch("192.0.2.2:443")
    for hours in range(0, 40, 2):
        now, shown = START + hours * HOUR, (A, B) if hours % 8 < 4 else (B, A)
        pairs = zip((one, other), shown, strict=True)
        look(now, *((each, seen(now, what, place=each.target)) for each, what in pairs))
    assert told() == []
