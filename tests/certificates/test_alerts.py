"""What is raised of what was seen: once, together, and never of what was not there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from django.conf import settings as site
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client, override_settings
from django.urls import reverse
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from notifications.certificates.claims import claim, claim_these
from notifications.certificates.models import Certificate, Raised, Sighting, Watch
from notifications.certificates.readings import Reading
from notifications.certificates.record import KEPT, forget, record
from notifications.certificates.settling import settle_again
from notifications.certificates.verdicts import Verdict
from notifications.models import NotificationEvent
from notifications.notifiers.wording import Severity, words_of
from tests.certificates.authority import NOW, Authority, Issued
from tests.certificates.servers import Servers
from tests.certificates.support import alerts, days, look, look_really, seen, texts, watch
from tests.fixtures import Configure
from tests.scripted import Script, channel

pytestmark = pytest.mark.django_db
CA = Authority()
A = CA.issue("www.example.com", since=NOW)  # until 90 days later
B = CA.issue("www.example.com", since=NOW + days(60))
LOCAL = CA.issue("127.0.0.1", since=NOW)
HOUR = timedelta(hours=1)


def test_each_threshold_is_raised_once_and_says_what_people_need() -> None:
    one = watch()
    for day in (1, 40, 61, 62, 77, 78, 86, 89, 91, 92):
        look(NOW + days(day), (one, seen(NOW + days(day), A)))
    assert texts() == [
        "www.example.com expires on 2027-02-24 12:00 UTC, in 29 days:"
        " no more than a third of the lifetime is left.",
        "www.example.com expires on 2027-02-24 12:00 UTC, in 13 days:"
        " no more than 15 % of the lifetime is left.",
        "www.example.com expires on 2027-02-24 12:00 UTC, in 4 days:"
        " no more than 5 % of the lifetime is left.",
        "www.example.com has expired on 2027-02-24 12:00 UTC.",
    ]
    first = alerts()[0]
    assert (first.type, first.channel, first.recipient) == ("ExpirationWarning", "Slack", "#pki")
    assert first.certificate_id == "www.example.com"
    assert first.message.splitlines()[2:] == [
        "Names: www.example.com",
        "Issuer: CN=Tests' Root",
        f"Serial: {A.certificate.serial_number:x}",
        "Seen at: www.example.com:443",
    ]
    assert {row.event for row in Raised.objects.all()} == {event.pk for event in alerts()}


def test_it_reads_well_on_every_channel() -> None:
    """The headline says it all, and the end that counts is the certificate's."""
    one, other = watch(), watch("two.example.com")
    two = CA.issue("two.example.com", since=NOW + HOUR)
    for day in (86.9, 91):
        now = NOW + days(day)
        look(now, (one, seen(now, A)), (other, seen(now, two, place=other.target)))
    warning, over = alerts()
    words = words_of(event_of(warning), NOW + days(86.9))
    assert words.headline == (
        "2 certificates expire, the first on 2027-02-24 12:00 UTC: www.example.com, two.example.com"
    )
    assert (words.label, words.severity) == ("Expiry warning", Severity.WARNING)
    assert words.details["expires"].startswith("2027-02-24 12:00:00 UTC")
    words = words_of(event_of(over), NOW + days(91))
    assert (words.label, words.severity) == ("Expired", Severity.CRITICAL)
    assert words.headline.startswith("2 certificates have expired, the first on 2027-02-24 12:00 UTC")


def event_of(event: NotificationEvent) -> Any:
    return SimpleNamespace(url="", **{name: getattr(event, name) for name in FIELDS})


FIELDS = ("id", "type", "message", "certificate_id", "created_at")


def test_first_seen_late_raises_the_most_urgent_alone() -> None:
    one = watch()
    recorded = look(NOW + days(87), (one, seen(NOW + days(87), A)))
    [event] = alerts()
    assert recorded.raised == (event.pk,)
    assert "5 % of the lifetime" in event.message
    look(NOW + days(88), (one, seen(NOW + days(88), A)))
    assert len(alerts()) == 1


def test_a_renewal_begins_anew() -> None:
    one = watch()
    look(NOW + days(61), (one, seen(NOW + days(61), A)))
    look(NOW + days(65), (one, seen(NOW + days(65), B)))
    look(NOW + days(95), (one, seen(NOW + days(95), B)))
    assert len(texts()) == 1
    look(NOW + days(121), (one, seen(NOW + days(121), B)))
    assert texts()[1].startswith("www.example.com expires on 2027-04-25")


def test_what_is_gone_raises_nothing() -> None:
    one = watch()
    look(NOW + days(10), (one, seen(NOW + days(10), A)))
    look(NOW + days(65), (one, seen(NOW + days(65), B)))
    look(NOW + days(91), (one, seen(NOW + days(91), B)))
    assert texts() == []
    assert [(row.certificate.fingerprint, row.current) for row in Sighting.objects.all()] == [
        (B.fingerprint, True),
        (A.fingerprint, False),
    ]


def test_days_are_days_where_one_writes_days() -> None:
    one = watch(at=["30d", "7d"])
    for day in (59, 61, 82, 84, 91):
        look(NOW + days(day), (one, seen(NOW + days(day), A)))
    assert [text.partition(": ")[2] for text in texts()] == [
        "no more than 30 days are left.",
        "no more than 7 days are left.",
    ]


def test_everybody_is_told_on_every_channel_and_each_once() -> None:
    first = watch(notify=["Slack:#pki", "slack:#pki", "Email:ops@example.com", "Slack:#web"])
    second = watch("two.example.com:443", notify=["Slack:#pki"])
    now = NOW + days(61)
    look(now, (first, seen(now, A)), (second, seen(now, A, place="two.example.com:443")))
    assert sorted((one.channel, one.recipient) for one in alerts()) == [
        ("Email", "ops@example.com"),
        ("Slack", "#pki"),
        ("Slack", "#web"),
    ]
    assert "Seen at: www.example.com:443, two.example.com:443" in alerts(recipient="#pki")[0].message


def test_nobody_is_told_where_nobody_is_to_be() -> None:
    look(NOW + days(95), (watch(notify=[]), seen(NOW + days(95), A)))
    assert texts() == []
    assert Certificate.objects.count() == 1


def test_what_passes_a_threshold_together_is_one_alert() -> None:
    now = NOW + days(61)
    issued = [CA.issue(f"host-{n}.example.com", since=NOW + n * HOUR) for n in range(60)]
    watches = [watch(f"host-{n}.example.com") for n in range(60)]
    looked = [
        (one, seen(now, certificate, place=one.target))
        for one, certificate in zip(watches, issued, strict=True)
    ]
    look(now, *looked)
    [event] = alerts()
    lines = event.message.splitlines()
    assert lines[0] == (
        "17 certificates expire, the first on 2027-02-24 12:00 UTC: host-0.example.com, host-1.example.com,"
        " host-2.example.com and 14 more. Of each no more than a third of the lifetime is left."
    )
    assert (
        lines[2]
        == "- host-0.example.com expires on 2027-02-24 12:00 UTC, in 29 days (host-0.example.com:443)"
    )
    assert event.certificate_id is None
    look(now + days(3), *looked)
    assert len(alerts()) == 2
    assert alerts()[1].message.startswith("43 certificates expire")
    look(now + days(4), *looked)
    assert len(alerts()) == 2


def test_a_pruned_alert_is_not_raised_again() -> None:
    one = watch()
    look(NOW + days(61), (one, seen(NOW + days(61), A)))
    NotificationEvent.objects.all().delete()
    look(NOW + days(62), (one, seen(NOW + days(62), A)))
    assert alerts() == []


def test_two_who_record_the_same_raise_it_once() -> None:
    """What one has raised since the other looked."""
    first, second = watch(), watch("two.example.com")
    now = NOW + days(61)
    claimed = claim_these([first.pk, second.pk], now)
    looked = [(one, seen(now, A, place=one.target)) for one in claimed]
    record(looked[:1], now)
    record(looked[1:], now)
    assert len(alerts()) == 1


def test_an_alert_that_is_refused_is_raised_another_time(caplog: pytest.LogCaptureFixture) -> None:
    one = watch()
    Watch.objects.filter(pk=one.pk).update(notify=["Slack:" + 300 * "x", "Email:ops@example.com"])
    look(NOW + days(61), (one, seen(NOW + days(61), A)))
    assert [event.channel for event in alerts()] == ["Email"]
    assert "an alert about certificates is refused" in caplog.text
    Watch.objects.filter(pk=one.pk).update(notify=["Slack:#pki"])
    look(NOW + days(62), (one, seen(NOW + days(62), A)))
    assert [event.channel for event in alerts()] == ["Email", "Slack"]


# What else is raised


def test_what_cannot_be_read_for_a_day_is_told_once_for_each_time() -> None:
    one = watch()
    problem = Reading(problem="no connection: connection refused")
    for hours in (0, 1, 23, 24, 25, 48):
        look(NOW + hours * HOUR, (one, problem))
    assert texts() == [
        "No certificate could be read at www.example.com:443 since 2026-11-26 12:00 UTC:"
        " no connection: connection refused."
    ]
    assert alerts()[0].type == "PolicyViolation"
    one.refresh_from_db()
    assert one.failing_since == NOW
    look(NOW + 49 * HOUR, (one, seen(NOW, A)))
    one.refresh_from_db()
    assert (one.failing_since, one.problem) == (None, "")
    look(NOW + 50 * HOUR, (one, problem))
    look(NOW + 75 * HOUR, (one, problem))
    assert len(texts()) == 2


def test_several_that_cannot_be_read_are_one_alert() -> None:
    watches = [watch(f"host-{n}.example.com") for n in range(3)]
    for hours in (0, 24):
        look(NOW + hours * HOUR, *((one, Reading(problem="no connection")) for one in watches))
    [event] = alerts()
    assert event.message.splitlines()[0] == "At 3 places no certificate could be read for a day."
    assert "- No certificate could be read at host-1.example.com:443 since" in event.message


def test_what_was_seen_before_stays_where_nothing_can_be_read() -> None:
    one = watch()
    look(NOW, (one, seen(NOW, A)))
    look(NOW + HOUR, (one, Reading(problem="no connection")))
    assert Sighting.objects.get().current


def test_what_clients_would_refuse_for_a_day_is_told_once() -> None:
    one = watch()
    wrong = [Verdict.WRONG_NAME, Verdict.UNKNOWN_ISSUER]
    for hours in (0, 12, 24, 36):
        look(NOW + hours * HOUR, (one, seen(NOW, A, verdicts=wrong)))
    assert texts() == [
        "The certificate of www.example.com is signed by nobody that this machine trusts"
        " and is for other names than the one it was asked for."
    ]
    assert alerts()[0].type == "PolicyViolation"


def test_what_is_revoked_is_told_at_once_as_that(servers: Servers, tmp_path: Path) -> None:
    file = tmp_path / "root.pem"
    one = watch(f"127.0.0.1:{servers.tls(LOCAL.context(tmp_path))}", ca_file=str(file))
    file.write_bytes(CA.pem)
    look_really(NOW + HOUR, one)
    file.write_bytes(CA.pem + CA.revoking(LOCAL))
    for hours in (2, 14, 40):
        look_really(NOW + hours * HOUR, one)
    [event] = alerts()
    assert (event.type, event.certificate_id) == ("Revocation", "127.0.0.1")
    assert event.message.startswith("The certificate of 127.0.0.1 is revoked by its issuer.")


# Clocks that are wrong


@pytest.mark.parametrize("wrong", [datetime(1971, 1, 1, tzinfo=UTC), datetime(2099, 1, 1, tzinfo=UTC)])
def test_a_clock_that_was_wrong_for_a_while_stops_nothing(wrong: datetime) -> None:
    """It was, when somebody looked, and is right since: all goes on, by the right time."""
    one, other = watch(), watch("gone.example.com")
    long = CA.issue("www.example.com", since=NOW, until=NOW.replace(year=2100))
    reading, gone = (lambda at: seen(at, long, A)), CA.issue("gone.example.com", since=NOW)
    look(NOW, (one, reading(NOW)), (other, seen(NOW, gone, place=other.target)))
    told = len(alerts())
    look(wrong, (one, reading(wrong)), (other, seen(wrong, gone, place=other.target)))
    forget(wrong)
    assert Certificate.objects.count() == 3
    told_wrongly = len(alerts()) - told
    assert told_wrongly == (0 if wrong < NOW else 2)
    # By the clock that is right again both are due, and what is gone is gone.
    now = NOW + HOUR if wrong < NOW else NOW + days(1)
    assert {row.pk for row in claim(now, "here")} == {one.pk, other.pk}
    look(now, (one, reading(now)), (other, Reading()))
    assert Sighting.objects.filter(watch=other, current=True).count() == 0
    # Each threshold is told once at most, whatever the clock was.
    for day in (62, 80, 88, 91):
        look(NOW + days(day), (one, reading(NOW + days(day))))
    of_a = Raised.objects.filter(certificate__fingerprint=A.fingerprint)
    assert sorted(row.what for row in of_a) == ["ends:0", "ends:15%", "ends:33%", "ends:5%"]
    assert Raised.objects.filter(certificate__fingerprint=long.fingerprint).count() == (
        0 if wrong < NOW else 3
    )


def test_what_is_mended_within_the_day_is_not_told() -> None:
    one = watch()
    look(NOW, (one, seen(NOW, A, verdicts=[Verdict.INCOMPLETE_CHAIN])))
    look(NOW + 12 * HOUR, (one, seen(NOW, A)))
    look(NOW + 25 * HOUR, (one, seen(NOW, A, verdicts=[Verdict.INCOMPLETE_CHAIN])))
    assert texts() == []


def test_renewed_and_not_reloaded(servers: Servers, tmp_path: Path) -> None:
    file = tmp_path / "fullchain.pem"
    file.write_bytes(A.chain)
    contexts = [A.context(tmp_path)]
    served, kept = watch(f"127.0.0.1:{servers.reloading(contexts)}"), watch(str(file))
    start = NOW + days(61)
    look_really(start, served, kept)
    file.write_bytes(B.chain)
    look_really(start + HOUR, kept, served)
    after = start + 2 * HOUR + timedelta(minutes=1)
    assert set(Watch.objects.values_list("next_check_at", flat=True)) == {after}
    look_really(after, served, kept)
    [event] = alerts(type="DeploymentFailure")
    assert event.message.startswith(
        "www.example.com was renewed and not reloaded: what is served expires on 2027-02-24 12:00 UTC,"
        f" and {file} is valid until 2027-04-25 12:00 UTC."
    )
    look_really(start + days(1), served)
    contexts[0] = B.context(tmp_path)
    look_really(start + days(2), served, kept)
    assert len(alerts(type="DeploymentFailure")) == 1


def test_reloaded_in_time_is_told_to_nobody(servers: Servers, tmp_path: Path) -> None:
    file = tmp_path / "fullchain.pem"
    file.write_bytes(A.chain)
    contexts = [A.context(tmp_path)]
    served, kept = watch(f"127.0.0.1:{servers.reloading(contexts)}"), watch(str(file))
    look_really(NOW + HOUR, served, kept)
    file.write_bytes(B.chain)
    look_really(NOW + 2 * HOUR, served, kept)
    contexts[0] = B.context(tmp_path)
    look_really(NOW + 4 * HOUR, served, kept)
    assert alerts(type="DeploymentFailure") == []


def test_two_that_alternate_are_told_of_once_each(servers: Servers, tmp_path: Path) -> None:
    other = CA.issue("www.example.com", since=NOW + days(1))
    port = servers.tls(A.context(tmp_path), other.context(tmp_path))
    one = watch(f"127.0.0.1:{port}", on_renewal=True)
    for hours in range(12):
        look_really(NOW + days(63) + hours * HOUR, one)
    # The first looked renewed until it was shown again: its alert was withdrawn then, and raised anew.
    told = [(event.type, event.status) for event in alerts() if not event.withdrawn]
    assert sorted(told) == [("ExpirationWarning", "pending")] * 2 + [("RenewalSuccess", "pending")]
    assert len(alerts()) == 4
    assert Sighting.objects.count() == Certificate.objects.count() == 2


@pytest.mark.parametrize("settled", ["withdrawn", "solved"])
def test_what_looked_like_a_renewal_and_was_none_is_raised_anew(settled: str, configure: Configure) -> None:
    """A load balancer shows the new certificate first, and the old one again: that one still ends."""
    configure(**TELLS_SLACK)
    one = watch()

    def shown(day: float, issued: Issued) -> list[str]:
        look(NOW + days(day), (one, seen(NOW + days(day), issued)))
        return [event.status for event in alerts(type="ExpirationWarning")]

    assert shown(61, A) == ["pending"]
    if settled == "solved":
        NotificationEvent.objects.update(status="sent", sent_at=NOW + days(61))
    ended = {"withdrawn": "read", "solved": "sent"}[settled]
    assert shown(62, B) == [ended]
    assert len(alerts(type="Solved")) == (settled == "solved")
    assert shown(63, A) == [ended, "pending"]
    for day in (64, 65, 66, 67):  # from now on it is known that they are shown in turn
        assert shown(day, B if day % 2 == 0 else A) == [ended, "pending"]
    assert shown(78, A) == [ended, "pending", "pending"], "and what is more urgent is raised as ever"
    first, again, _ = alerts(type="ExpirationWarning")
    assert again.message.startswith("www.example.com expires on 2027-02-24 12:00 UTC, in 27 days")
    assert first.dedup_key != again.dedup_key
    assert Raised.objects.exclude(undone_at=None).get().event == first.pk


def test_an_alert_that_ended_in_every_other_way_is_not_raised_anew(configure: Configure) -> None:
    """Delivered and nobody told that it is solved; dismissed; dead."""
    one = watch(notify=["Slack:sent", "Slack:dismissed", "Slack:dead"])
    look(NOW + days(61), (one, seen(NOW + days(61), A)))
    NotificationEvent.objects.filter(recipient="sent").update(status="sent", sent_at=NOW + days(61))
    NotificationEvent.objects.exclude(recipient="sent").update(status="dead")
    NotificationEvent.objects.filter(recipient="dismissed").dismiss(by="ops", reason="known")
    for day, issued in ((61.5, A), (62, A)):
        look(NOW + days(day), (one, seen(NOW + days(day), issued)))
    assert len(alerts()) == 3
    look(NOW + days(63), (one, seen(NOW + days(63), B)))
    assert alerts(recipient="dead")[0].withdrawn
    look(NOW + days(64), (one, seen(NOW + days(64), A)))
    assert {event.recipient: event.status for event in alerts()[3:]} == {"dead": "pending"}


def test_what_a_removed_watch_alone_still_showed_is_settled(client: Client) -> None:
    """Everywhere else it was renewed, and nobody cares for the last place any more."""
    for by in ("command", "admin", "admin's list"):
        NotificationEvent.objects.all().delete()
        Certificate.objects.all().delete()
        Watch.objects.all().delete()
        one, last = watch(), watch("last.example.com")
        look(NOW + days(61), *((each, seen(NOW + days(61), A, place=each.target)) for each in (one, last)))
        look(NOW + days(62), (one, seen(NOW + days(62), B)))
        assert [event.status for event in alerts()] == ["pending"], by
        removed(by, last, client)
        assert not Watch.objects.filter(pk=last.pk).exists()
        assert [event.withdrawn for event in alerts()] == [True], by
        removed(by, one, client)
    # And where none is left that shows it, nothing is certain.
    other = watch("other.example.com")
    look(NOW + days(61), (other, seen(NOW + days(61), LOCAL, place=other.target)))
    removed("command", other, client)
    assert alerts()[-1].status == "pending"


def removed(by: str, one: Watch, client: Client) -> None:
    if by == "command":
        call_command("watch", "remove", one.target, stdout=StringIO())
        return
    client.force_login(User.objects.get_or_create(username="root", is_superuser=True, is_staff=True)[0])
    if by == "admin":
        address = reverse("admin:notifications_certificates_watch_delete", args=[one.pk])
        client.post(address, {"post": "yes"})
    else:
        address = reverse("admin:notifications_certificates_watch_changelist")
        client.post(address, {"action": "delete_selected", "_selected_action": [one.pk], "post": "yes"})


def test_a_renewals_success_is_told_where_it_is_asked_for() -> None:
    for name, on_renewal in (("www.example.com", True), ("quiet.example.com", False)):
        one = watch(name, on_renewal=on_renewal)
        look(NOW + days(10), (one, seen(NOW, A, place=one.target)))
        look(NOW + days(61), (one, seen(NOW + days(61), B, place=one.target)))
    [event] = alerts()
    assert (event.type, event.certificate_id) == ("RenewalSuccess", "www.example.com")
    serial = f"{B.certificate.serial_number:x}"
    assert event.message.startswith(
        f"www.example.com was renewed: valid until 2027-04-25 12:00 UTC, serial {serial}."
    )


def test_another_issuer_or_key_is_told_where_it_is_asked_for() -> None:
    same_key = CA.issue("www.example.com", since=NOW + days(30), key=A.key)
    other = Authority("Another Root").issue("www.example.com", since=NOW + days(31))
    loud, quiet = watch(on_change=True), watch("quiet.example.com")
    for day, issued in ((1, A), (30, same_key), (32, other), (33, A), (34, other)):
        now = NOW + days(day)
        look(now, (loud, seen(now, issued)), (quiet, seen(now, issued, place=quiet.target)))
    assert texts() == [
        "www.example.com has another issuer and another key than before:"
        " CN=Another Root instead of CN=Tests' Root."
    ]


@pytest.mark.parametrize("away", [False, True])
def test_a_renewal_is_compared_with_what_was_there_last(away: bool) -> None:
    """Not with what it all began with: one of ten years that nobody trusted. Also where a look saw none."""
    first = Authority("Nobody").issue("www.example.com", since=NOW - days(300), until=NOW + days(3350))
    one = watch(on_renewal=True, on_change=True, at=["0"])
    look(NOW, (one, seen(NOW, first)))
    look(NOW + days(1), (one, seen(NOW, A)))
    if away:
        look(NOW + days(2), (one, Reading()))
    raised = len(texts())
    renewed = CA.issue("www.example.com", since=NOW + days(45), key=A.key)
    look(NOW + days(46), (one, seen(NOW + days(46), renewed)))
    [said] = texts()[raised:]
    assert said.startswith("www.example.com was renewed: valid until")


def test_of_several_in_a_file_each_is_compared_with_the_one_that_it_replaces() -> None:
    """RSA and EC of two issuers; what is added beside them replaces none."""
    of_rsa = CA, rsa.generate_private_key(65537, 2048)
    of_ec = Authority("Another Root"), ec.generate_private_key(ec.SECP256R1())

    def issued(by: tuple[Authority, Any], day: int) -> Issued:
        return by[0].issue("www.example.com", since=NOW + days(day), key=by[1])

    first, second, third = issued(of_rsa, 0), issued(of_rsa, 30), issued(of_rsa, 60)
    one, two, three = issued(of_ec, 0), issued(of_ec, 29), issued(of_ec, 61)
    added = Authority("A Third").issue("www.example.com", since=NOW + days(31))
    file = watch("/etc/ssl/web.pem", on_change=True, on_renewal=True, at=["0"])
    for day, held in (
        (1, (first, one)),
        (31, (second, one)),
        (32, (second, two)),
        (33, (second, two, added)),
        (62, (third, three, added)),
    ):
        look(NOW + days(day), (file, seen(NOW + days(day), *held, place=file.target)))
    once = "www.example.com was renewed"
    assert [said.partition(":")[0] for said in texts()] == [once, once, "2 certificates were renewed."]


# Outsiders' texts


def test_a_name_in_a_certificate_stays_in_its_place() -> None:
    bad = "evil\u202e\n[threshold:0] <b>moc.elpmaxe" + "x" * 500
    issued = CA.issue(common_name="x" * 60 + "\u202e")
    reading = seen(NOW + days(61), issued)
    one = watch(on_renewal=True)
    look(NOW + days(61), (one, reading))
    Certificate.objects.update(names=[bad])
    look(NOW + days(78), (one, seen(NOW + days(78), issued)))
    for event in alerts():
        assert "\u202e" not in event.message
        assert "\u202e" not in (event.certificate_id or "")
        assert len(event.message) < 1500


# Claims


def test_a_claim_is_one_lookers_alone() -> None:
    one = watch()
    Watch.objects.update(next_check_at=NOW)
    [mine] = claim(NOW, "here")
    assert mine.pk == one.pk
    assert claim(NOW, "here") == []
    assert [again.pk for again in claim(NOW + days(1), "here")] == [one.pk]
    # Who comes late records nothing.
    assert record([(mine, seen(NOW, A))], NOW).raised == ()
    assert Sighting.objects.count() == 0


def test_files_of_another_machine_are_left_to_it() -> None:
    watch("/etc/ssl/web.pem", host="web-1")
    Watch.objects.update(next_check_at=NOW)
    assert claim(NOW, "web-2") == []
    assert len(claim(NOW, "web-1")) == 1


def test_a_watch_that_was_removed_meanwhile_is_not_recorded() -> None:
    one = watch()
    [mine] = claim_these([one.pk], NOW)
    one.delete()
    record([(mine, seen(NOW, A))], NOW)
    assert Sighting.objects.count() == 0


def test_what_is_long_gone_is_forgotten_and_nothing_else() -> None:
    one = watch()
    look(NOW, (one, seen(NOW, A)))
    look(NOW + days(70), (one, seen(NOW + days(70), B)))
    look(NOW + days(160), (one, Reading()))
    assert forget(NOW + days(200)) == 0
    assert forget(NOW + days(1000)) > 0
    assert (Sighting.objects.count(), Certificate.objects.count()) == (0, 0)


def test_what_was_forgotten_and_is_shown_again_is_told_again() -> None:
    """Although the notification of then is still there."""
    one, forgotten = watch(), NOW + days(91) + KEPT + HOUR
    look(NOW + days(91), (one, seen(NOW + days(91), A)))
    look(NOW + days(92), (one, seen(NOW, CA.issue("www.example.com", since=forgotten))))
    forget(forgotten)
    assert A.fingerprint not in Certificate.objects.values_list("fingerprint", flat=True)
    assert len(alerts()) == 1
    look(forgotten, (one, seen(forgotten, A)))
    assert len(alerts()) == 2


class TestAnySightings(TestCase):
    """Thresholds over the tables: whatever is seen where, and when."""

    @settings(max_examples=25, deadline=None, derandomize=True)
    @given(st.lists(st.tuples(st.integers(0, 100), st.sampled_from(["a", "b", "both", "none"])), max_size=12))
    def test_each_is_raised_at_most_once_and_if_it_was_crossed_while_seen(
        self, steps: list[tuple[int, str]]
    ) -> None:
        issued: dict[str, Issued] = {"a": A, "b": CA.issue("b.example.com", since=NOW + days(3))}
        one, two = watch(), watch("two.example.com")
        watched = {name: set[str]() for name in issued}
        for day, what in sorted(steps):
            now = NOW + days(day)
            here = [name for name in issued if what in (name, "both")]
            reading = seen(now, *(issued[name] for name in here))
            look(now, (one, reading), (two, seen(now, *(issued[name] for name in here), place="two")))
            for name in here:
                left = (issued[name].certificate.not_valid_after_utc - now) / days(90)
                watched[name] |= {text for text, share in SHARES.items() if left <= share}
        for name in issued:
            rows = Raised.objects.filter(certificate__fingerprint=issued[name].fingerprint)
            assert {row.what.removeprefix("ends:") for row in rows} == watched[name]
        events = [row.event for row in Raised.objects.all()]
        assert set(events) == {event.pk for event in alerts()}

    @settings(max_examples=40, deadline=None, derandomize=True)
    @given(st.lists(st.tuples(st.sampled_from(["a", "b", "c", "ab", "none"]), st.booleans()), max_size=9))
    def test_whoever_is_shown_and_ends_has_an_alert_that_nobody_took_back(
        self, steps: list[tuple[str, bool]]
    ) -> None:
        """Of one name several certificates, in any order and turn; now and then what waits is delivered."""
        shown = {"a": A, "b": B, "c": CA.issue("www.example.com", since=NOW + days(70))}
        one = watch(at=["100%"])
        with override_settings(NOTIFICATIONS={**site.NOTIFICATIONS, **TELLS_SLACK}):
            for hour, (names, delivers) in enumerate(steps):
                now = NOW + days(75) + hour * HOUR
                here = [issued for name, issued in shown.items() if name in names]
                look(now, (one, seen(now, *here)))
                told = [event for event in alerts(type="ExpirationWarning") if event.status != "read"]
                solved = {event.dedup_key for event in alerts(type="Solved")}
                standing = {event.pk for event in told if f"solved:{event.pk}" not in solved}
                for issued in here:
                    mine = Raised.objects.filter(certificate__fingerprint=issued.fingerprint, undone_at=None)
                    assert [row.event in standing for row in mine] == [True]
                if delivers:
                    NotificationEvent.objects.pending().update(status="sent", sent_at=now)
        # Once for each that came in its place at most.
        assert len(alerts(type="ExpirationWarning")) <= 6


TELLS_SLACK: dict[str, Any] = {"CHANNELS": {"Slack": channel(Script())}, "SOLVED_ON": ["Slack"]}
SHARES = {"33%": 0.33, "15%": 0.15, "5%": 0.05, "0": 0.0}


def test_what_lies_beside_a_whole_chain_is_told_of_all_the_same(tmp_path: Path) -> None:
    """acme.sh installs another site's into the folder of one that is watched already."""
    (tmp_path / "api.pem").write_bytes(CA.issue("api.example.com", since=NOW - days(30)).chain)
    one = watch(str(tmp_path))
    look_really(NOW, one)
    (tmp_path / "fullchain.pem").write_bytes(CA.issue("shop.example.com", since=NOW).chain)
    for day in (1, 40, 61):
        look_really(NOW + days(day), one)
    assert [text.partition(" ")[0] for text in texts() if "api." in text] == ["api.example.com"] * 2
    assert Sighting.objects.filter(current=True).count() == 2


# A clock that was ahead for a while


AHEAD = days(365)


def test_what_is_unreadable_since_a_time_to_come_is_so_since_now() -> None:
    one = watch()
    for at in (NOW + AHEAD, NOW, NOW + days(0.9), NOW + days(1.1), NOW + days(1.2)):
        look(at, (one, Reading(problem="no connection")))
    assert [event.type for event in alerts()] == ["PolicyViolation"]
    assert Watch.objects.get().failing_since == NOW


def test_what_is_wrong_since_a_time_to_come_is_so_since_now() -> None:
    one = watch()
    for at in (NOW + AHEAD, NOW, NOW + days(0.9), NOW + days(1.1), NOW + days(1.2)):
        look(at, (one, seen(NOW, B, verdicts=[Verdict.WRONG_NAME])))
    assert len(alerts(type="PolicyViolation")) == 1


def test_a_file_that_was_renewed_at_a_time_to_come_is_so_since_now() -> None:
    server = watch()
    file = watch("/etc/ssl/www.pem", served_by=[server.target])
    look(NOW, (server, seen(NOW, A)))
    look(NOW + AHEAD, (file, seen(NOW, B, place=file.target)))
    for hour in range(1, 5):
        at = NOW + hour * HOUR
        look(at, (server, seen(at, A)), (file, seen(at, B, place=file.target)))
    assert len(alerts(type="DeploymentFailure")) == 1


@pytest.mark.parametrize("renewed_at", [NOW + AHEAD + HOUR, NOW + days(62)])
def test_a_renewal_is_one_whatever_the_clock_said_before_it(renewed_at: datetime) -> None:
    one = watch()
    look(NOW + days(61), (one, seen(NOW, A)))
    look(NOW + AHEAD, (one, seen(NOW, A)))
    look(renewed_at, (one, seen(NOW, B)))
    look(NOW + days(63), (one, seen(NOW, B)))
    settle_again(NOW + days(63))
    assert alerts()[0].withdrawn
    rows = Sighting.objects.all()
    assert all(row.first_seen <= NOW + days(63) >= row.last_seen for row in rows)
