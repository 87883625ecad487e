"""What a round endures: one target, list, disk or row keeps no other from being looked at."""

from __future__ import annotations

import asyncio
import base64
import ssl
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from django.db import DataError, OperationalError
from django.db.models import JSONField, Value

from notifications.certificates import alerts as raising
from notifications.certificates import files, trust, watcher
from notifications.certificates import record as recording
from notifications.certificates import round as looking
from notifications.certificates.models import Sighting, Watch
from notifications.certificates.readings import Reading
from notifications.certificates.verdicts import Verdict
from notifications.models import NotificationEvent
from tests.certificates.authority import DAY, NOW, Authority, Issued
from tests.certificates.servers import Servers
from tests.certificates.support import alerts, look, look_really, seen, watch

ROOT = Authority()
OLD = ROOT.issue("127.0.0.1", since=NOW - 365 * DAY)
LEAF = ROOT.issue("127.0.0.1")
TEXT, BITS = b"\x0c\x0bTests' Root", b"\x03\x0b\x00ests' Root"


@pytest.fixture
def trusted(tmp_path: Path) -> str:
    file = tmp_path / "root.pem"
    file.write_bytes(ROOT.pem)
    return str(file)


def as_pem(der: bytes) -> bytes:
    return b"-----BEGIN X509 CRL-----\n" + base64.encodebytes(der) + b"-----END X509 CRL-----\n"


def version_3() -> bytes:
    der = x509.load_pem_x509_crl(ROOT.revoking(LEAF)).public_bytes(Encoding.DER)
    return der.replace(b"\x02\x01\x01", b"\x02\x01\x02", 1)


def odd_issuer() -> bytes:
    return x509.load_pem_x509_crl(ROOT.revoking(LEAF)).public_bytes(Encoding.DER).replace(TEXT, BITS)


@pytest.mark.django_db
@pytest.mark.parametrize("odd", [version_3, odd_issuer])
def test_an_odd_revocation_list_is_the_fault_of_its_watch_alone(
    odd: Any, servers: Servers, tmp_path: Path
) -> None:
    file = tmp_path / "ca.pem"
    file.write_bytes(ROOT.pem + as_pem(odd()))
    port = servers.tls(OLD.context(tmp_path))
    watch(f"127.0.0.1:{port}")
    bad = watch(f"localhost:{port}", ca_file=str(file))
    assert watcher.check_due().watches == 2
    bad.refresh_from_db()
    assert bad.problem == "the CA file has a revocation list that cannot be read"
    assert [event.message.partition(" has expired")[0] for event in alerts()] == ["127.0.0.1"]


@pytest.mark.parametrize("field", ["issuer", "serial"])
def test_what_openssl_takes_and_no_list_can_name_is_judged_all_the_same(field: str) -> None:
    """With a list of the same authority beside the roots."""
    from notifications.certificates import trust, verdicts

    der = LEAF.der.replace(TEXT, BITS, 1) if field == "issuer" else negative(LEAF)
    lists = [x509.load_pem_x509_crl(ROOT.revoking(LEAF))]
    store = trust.TrustStore.of([ROOT.der], lists)
    assert Verdict.REVOKED not in verdicts.of_chain([der], "127.0.0.1", store, NOW)


def negative(issued: Issued) -> bytes:
    number = issued.certificate.serial_number
    written = number.to_bytes(20, "big")
    return issued.der.replace(written, b"\x80" + written[1:], 1)


def test_what_a_list_of_changes_takes_off_is_not_revoked(
    trusted: str, servers: Servers, tmp_path: Path
) -> None:
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(ROOT.certificate.subject)
        .last_update(NOW - DAY)
        .next_update(NOW + DAY)
    )
    entry = (
        x509.RevokedCertificateBuilder().serial_number(LEAF.certificate.serial_number).revocation_date(NOW)
    )
    off = entry.add_extension(x509.CRLReason(x509.ReasonFlags.remove_from_crl), critical=False).build()
    listed = builder.add_revoked_certificate(off).sign(ROOT.key, hashes.SHA256())
    Path(trusted).write_bytes(ROOT.pem + listed.public_bytes(Encoding.PEM))
    target = f"127.0.0.1:{servers.tls(LEAF.context(tmp_path))}"
    [reading] = looking.look_at_all([Watch(target=target, ca_file=trusted)], NOW)
    assert reading.seen[0].verdicts == ()


# Disks


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """/mnt/hangs does not answer; its readers, by when they began."""
    let_go, readers, before = threading.Event(), list[str](), files.read

    def read(target: files.Files, now: object, password_file: str = "") -> Reading:
        if target.path == "/mnt/hangs":
            readers.append(target.path)
            let_go.wait(60)
        return before(target, NOW, password_file)

    monkeypatch.setattr(files, "read", read)
    monkeypatch.setattr(looking, "FILE_SECONDS", 0.05)
    yield readers
    let_go.set()


def test_a_disk_that_hangs_for_days_has_one_reader_and_stops_nobody(
    hanging: list[str], servers: Servers, tmp_path: Path
) -> None:
    stuck, good = Watch(target="/mnt/hangs"), f"127.0.0.1:{servers.tls(LEAF.context(tmp_path))}"
    readings = [looking.look_at_all([stuck], NOW)[0] for _ in range(70)]
    assert len(hanging) == 1
    assert {one.problem for one in readings} == {"nothing could be read within 0.05 s"}
    looking.FILE_SECONDS = 10.0
    [reading] = looking.look_at_all([Watch(target=good)], NOW, seconds=20)
    assert len(reading.seen) == 1


def test_ca_files_that_hang_hold_up_nobody_but_those_that_need_them(
    monkeypatch: pytest.MonkeyPatch, servers: Servers, tmp_path: Path
) -> None:
    """All of them are waited for at once, and by nobody else."""
    let_go, all_hang, before = threading.Event(), threading.Barrier(7), trust.trust_store

    def read(ca_file: str, hour: int) -> trust.TrustStore:
        if ca_file:
            all_hang.wait(15)
            let_go.wait(60)
        return before(ca_file, hour)

    monkeypatch.setattr(trust, "trust_store", read)
    monkeypatch.setattr(looking, "FILE_SECONDS", 20.0)
    good = f"127.0.0.1:{servers.tls(LEAF.context(tmp_path))}"
    watches = [Watch(target=f"host-{n}.invalid", ca_file=f"/mnt/{n}.pem") for n in range(6)]
    looked = looking.Looker._endpoint

    async def look(looker: Any, target: Any, store: Any, now: Any) -> Reading:
        found = await looked(looker, target, store, now)
        await asyncio.to_thread(all_hang.wait, 15)
        let_go.set()
        return found

    monkeypatch.setattr(looking.Looker, "_endpoint", look)
    *others, reading = looking.look_at_all([*watches, Watch(target=good)], NOW, seconds=20)
    assert len(reading.seen) == 1
    assert {one.problem for one in others} == {"the CA file has no certificate, or cannot be read"}


def test_what_has_been_read_can_be_read_again_at_once(trusted: str, tmp_path: Path) -> None:
    """Whatever its thread still does."""
    (tmp_path / "web.pem").write_bytes(LEAF.pem)
    watches = [Watch(target=str(tmp_path / "web.pem"), ca_file=trusted)]
    for _ in range(200):
        [reading] = looking.look_at_all(watches, NOW)
        assert reading.problem == ""


@pytest.mark.django_db
def test_what_is_in_a_folder_that_cannot_be_read_any_more_is_not_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said, and its alerts go on; what is beside it is looked at as ever."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "web.pem").write_bytes(ROOT.issue(f"{name}.example.com", since=NOW).pem)
    one, scan = watch(str(tmp_path)), files.os.scandir
    look_really(NOW, one)

    def refuse(path: Any) -> Any:
        if str(path).endswith("/a"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(files.os, "scandir", refuse)
    (tmp_path / "b" / "web.pem").unlink()
    look_really(NOW + timedelta(hours=1), one)
    one.refresh_from_db()
    assert one.problem == f"{tmp_path}/a cannot be read: permission denied"
    assert {row.certificate.names[0]: row.current for row in Sighting.objects.all()} == {
        "a.example.com": True,
        "b.example.com": False,
    }
    look_really(NOW + timedelta(hours=26), one)
    assert [event.type for event in alerts()] == ["PolicyViolation"]


@pytest.mark.django_db
def test_more_files_than_are_read_is_said_and_nothing_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(4):
        (tmp_path / f"{n}.pem").write_bytes(ROOT.issue(f"host-{n}.example.com").pem)
    one = watch(str(tmp_path))
    look_really(NOW, one)
    monkeypatch.setattr(files, "MOST_FILES", 3)
    look_really(NOW + timedelta(hours=1), one)
    one.refresh_from_db()
    assert one.problem == "there are more than 3 files, and the rest is not read"
    assert Sighting.objects.filter(current=True).count() == 4


@pytest.mark.django_db
def test_a_renewal_is_seen_beside_a_file_that_is_broken(tmp_path: Path) -> None:
    (tmp_path / "bad.pem").write_text("-----BEGIN CERTIFICATE-----\n?\n")
    (tmp_path / "web.pem").write_bytes(ROOT.issue("www.example.com", since=NOW - 62 * DAY).pem)
    one = watch(str(tmp_path))
    look_really(NOW, one)
    (tmp_path / "web.pem").write_bytes(ROOT.issue("www.example.com", since=NOW).pem)
    look_really(NOW + timedelta(hours=1), one)
    assert [event.withdrawn for event in alerts(type="ExpirationWarning")] == [True]


# Servers


def test_a_server_that_says_no_more_behind_its_certificate_has_shown_it(
    servers: Servers, tmp_path: Path
) -> None:
    context = LEAF.context(tmp_path)
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_side=True)
        incoming.write(await reader.read(65536))
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            writer.write(outgoing.read())
        await asyncio.sleep(3600)

    [reading] = looking.look_at_all([Watch(target=f"127.0.0.1:{servers.talking(talk)}")], NOW, seconds=1.0)
    assert [one.facts.fingerprint for one in reading.seen] == [LEAF.fingerprint]


def test_a_server_that_likes_to_be_nobody_shows_its_certificate(servers: Servers, tmp_path: Path) -> None:
    """As mail servers do: ciphers without a certificate come first there."""
    context = LEAF.context(tmp_path)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("aNULL:-aNULL:ALL:@SECLEVEL=0")
    context.set_ecdh_curve("prime256v1")
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    [reading] = looking.look_at_all([Watch(target=f"127.0.0.1:{servers.tls(context)}")], NOW, seconds=20)
    assert [one.facts.fingerprint for one in reading.seen] == [LEAF.fingerprint]


# Rows


@pytest.mark.django_db
def test_a_row_that_another_program_wrote_stops_no_round(servers: Servers, tmp_path: Path) -> None:
    port = servers.tls(OLD.context(tmp_path))
    watch(f"127.0.0.1:{port}")
    odd = watch(f"localhost:{port}")
    Watch.objects.filter(pk=odd.pk).update(notify=[5, None, "Slack:#pki"], at=["soon"])
    assert watcher.check_due().watches == 2
    assert NotificationEvent.objects.count() == 1
    odd.refresh_from_db()
    assert odd.checked_at is not None


@pytest.mark.django_db
def test_a_number_where_people_are_to_be_told_is_nobody() -> None:
    one, odd = watch(), watch("odd.example.com")
    Watch.objects.filter(pk=odd.pk).update(notify=Value(7, JSONField()))
    look(NOW, *((each, seen(NOW, OLD, place=each.target)) for each in (one, odd)))
    assert not Watch.objects.exclude(problem="").exists()
    assert Sighting.objects.count() == 2
    assert len(alerts()) == 1


@pytest.mark.django_db
@pytest.mark.parametrize(
    "error", [OperationalError("deadlock"), DataError("refused"), AttributeError("ours")]
)
def test_what_fails_late_in_a_transaction_is_written_when_it_is_tried_again(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claim stands, although the first try had moved on."""
    first, second, before = watch(), watch("two.example.com"), raising.raise_all
    calls = list[int]()

    def fail_once(*given: Any) -> list[str]:
        calls.append(1)
        if len(calls) == 1:
            raise error
        return before(*given)

    monkeypatch.setattr(raising, "raise_all", fail_once)
    monkeypatch.setattr(recording, "kind_of", lambda _: "refused")
    monkeypatch.setattr(recording, "persistently", lambda call, what: call())
    look(NOW, *((one, seen(NOW, OLD, place=one.target)) for one in (first, second)))
    assert Watch.objects.filter(checked_at=NOW, problem="").count() == 2
    assert len(alerts()) == 1


def test_the_key_of_the_tests_is_what_they_think() -> None:
    assert isinstance(ROOT.key, ec.EllipticCurvePrivateKey)
    assert TEXT in LEAF.der
