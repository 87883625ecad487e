"""Certificates in files, and all that can be in a file instead."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st

from notifications.certificates import files
from notifications.certificates import round as looking
from notifications.certificates.facts import Unreadable
from notifications.certificates.models import Watch
from notifications.certificates.readings import Reading
from notifications.certificates.targets import parse
from notifications.certificates.verdicts import Verdict
from tests.certificates.authority import DAY, NOW, Authority, short_key, signed_with

ROOT = Authority()
BELOW = Authority("Tests' Intermediate", ROOT)
WEB = BELOW.issue("www.example.com", "example.com", "192.0.2.7")
EXPIRED = BELOW.issue("old.example.com", since=NOW - 100 * DAY)


def read(path: Path | str, password_file: Path | str = "") -> Reading:
    target = parse(str(path))
    assert isinstance(target, files.Files)
    return files.read(target, NOW, str(password_file))


def fingerprints(reading: Reading) -> list[str]:
    return [one.facts.fingerprint for one in reading.seen]


@pytest.mark.parametrize("data", [WEB.pem, WEB.der, WEB.chain, WEB.key_pem + WEB.chain, WEB.chain + ROOT.pem])
def test_one_file_shows_its_own_certificate_and_not_those_above(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "web.pem").write_bytes(data)
    reading = read(tmp_path / "web.pem")
    assert (fingerprints(reading), reading.problem) == ([WEB.fingerprint], "")
    [seen] = reading.seen
    assert seen.place == str(tmp_path / "web.pem")
    assert seen.facts.names == ("www.example.com", "example.com", "192.0.2.7")
    assert seen.facts.issuer == "CN=Tests' Intermediate"
    assert (seen.facts.not_before, seen.facts.not_after) == (NOW - 30 * DAY, NOW + 60 * DAY)
    assert int(seen.facts.serial, 16) == WEB.certificate.serial_number
    assert seen.facts.algorithm == "EC secp256r1, sha256"
    assert seen.verdicts == ()


def test_a_file_with_cas_alone_shows_these(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(ROOT.pem + BELOW.pem + ROOT.pem)
    assert len(read(tmp_path / "ca.pem").seen) == 2


def test_what_is_wrong_with_a_certificate_itself_is_said(tmp_path: Path) -> None:
    (tmp_path / "old.pem").write_bytes(EXPIRED.pem)
    (tmp_path / "weak.pem").write_bytes(BELOW.issue("weak.example.com", key=short_key()).pem)
    (tmp_path / "dsa.pem").write_bytes(BELOW.issue("d.example.com", key=dsa.generate_private_key(2048)).pem)
    of_rsa = Authority("RSA", key=rsa.generate_private_key(65537, 2048))
    for hashed in (hashes.SHA1(), hashes.MD5()):
        weak = signed_with(hashed, of_rsa.key, of_rsa.issue("w.example.com").certificate)
        (tmp_path / f"{hashed.name}.pem").write_bytes(weak.public_bytes(Encoding.PEM))
    (tmp_path / "young.pem").write_bytes(BELOW.issue("young.example.com", since=NOW + DAY).pem)
    verdicts = {Path(one.place).stem: one.verdicts for one in read(tmp_path).seen}
    assert verdicts == {
        "old": (Verdict.EXPIRED,),
        "weak": (Verdict.WEAK_KEY,),
        "dsa": (Verdict.WEAK_KEY,),
        "sha1": (Verdict.WEAK_SIGNATURE,),
        "md5": (Verdict.WEAK_SIGNATURE,),
        "young": (Verdict.NOT_YET_VALID,),
    }


def test_pkcs12_is_opened_with_the_password_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "web.p12").write_bytes(WEB.pkcs12(b"secret word"))
    (tmp_path / "free.p12").write_bytes(WEB.pkcs12(None))
    (tmp_path / "word").write_text("secret word\nsecond line\n")
    (tmp_path / "wrong").write_text("another")
    (tmp_path / "empty").write_text("")
    assert fingerprints(read(tmp_path / "web.p12", tmp_path / "word")) == [WEB.fingerprint]
    assert fingerprints(read(tmp_path / "free.p12")) == [WEB.fingerprint]
    for password, why in (
        ("wrong", "is a PKCS#12 file that cannot be opened: the password is wrong"),
        ("", "is a PKCS#12 file that cannot be opened: it needs a password (--password-file)"),
        ("empty", "the password's file is empty"),
        ("none", "the password's file cannot be read: no such file or directory"),
    ):
        reading = read(tmp_path / "web.p12", tmp_path / password if password else "")
        assert (reading.seen, reading.problem) == ((), why)


BAD = {
    "": "has no certificate",
    "key": "has a private key and no certificate",
    "request": "has no certificate but certificate request",
    "text": "has no certificate",
    "long": "is longer than 1 MiB: no certificate is",
    "cut": "is no certificate",
    "base64": "has a certificate that is not base64",
    "odd": "is no certificate",
    "sequence": "is neither a certificate nor a PKCS#12 file",
    "java": "is a Java keystore of the old kind: keytool -importkeystore -deststoretype pkcs12 converts it",
}


def bad(kind: str) -> bytes:
    block = b"-----BEGIN CERTIFICATE-----\n%s\n-----END CERTIFICATE-----\n"
    return {
        "": b"",
        "key": WEB.key_pem,
        "request": b"-----BEGIN CERTIFICATE REQUEST-----\nMIIB\n-----END CERTIFICATE REQUEST-----\n",
        "text": b"\x00\xff nothing of the kind" * 100,
        "long": WEB.pem * 80_000,  # 50 MB
        "cut": WEB.pem[:300],
        "base64": block % b"!!!!",
        "odd": block % b"aGVsbG8=",
        "sequence": b"\x30\x03\x02\x01\x05",
        "java": b"\xfe\xed\xfe\xed\x00\x00\x00\x02",
    }[kind]


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_certificate_is_one_line(kind: str, tmp_path: Path) -> None:
    (tmp_path / "file.pem").write_bytes(bad(kind))
    assert read(tmp_path / "file.pem") == Reading(problem=BAD[kind])


def test_what_cannot_be_opened_is_one_line_and_nobody_waits(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pem")
    (tmp_path / "loop.pem").symlink_to("loop.pem")
    (tmp_path / "gone.pem").symlink_to("nowhere.pem")
    assert read(tmp_path / "pipe.pem").problem == "is no file"
    assert read("/dev/zero").problem == "is no file"
    assert read(tmp_path / "loop.pem").problem.startswith("cannot be read: ")
    assert read(tmp_path / "gone.pem").problem == "cannot be read: no such file or directory"
    assert read(tmp_path / "none.pem").problem == "there is no such file"
    assert read(tmp_path / "*.crt").problem == "there is no file of a certificate's"
    assert read(tmp_path / "pipe.pem" / "x").problem.startswith("there is no such file")


def test_a_folder_tells_of_its_faults_and_shows_the_rest(tmp_path: Path) -> None:
    (tmp_path / "sub" / "sub").mkdir(parents=True)
    (tmp_path / "web.pem").write_bytes(WEB.pem)
    (tmp_path / "sub" / "sub" / "old.CRT").write_bytes(EXPIRED.der)
    (tmp_path / "key.pem").write_bytes(WEB.key_pem)
    (tmp_path / "notes.txt").write_bytes(WEB.pem)
    (tmp_path / "round").symlink_to(tmp_path)
    assert sorted(fingerprints(read(tmp_path))) == sorted([WEB.fingerprint, EXPIRED.fingerprint])
    assert read(tmp_path).problem == ""
    for n in range(5):
        (tmp_path / f"bad-{n}.pem").write_bytes(bad("base64"))
    reading = read(tmp_path)
    assert len(reading.seen) == 2
    assert reading.problem.startswith(f"{tmp_path}/bad-0.pem has a certificate that is not base64; ")
    assert reading.problem.endswith("; and 2 more")


def test_a_pattern_takes_what_it_matches(tmp_path: Path) -> None:
    for name, data in (("a.conf", WEB.pem), ("b.conf", EXPIRED.pem), ("c.pem", ROOT.pem)):
        (tmp_path / name).write_bytes(data)
    assert len(read(tmp_path / "*.conf").seen) == 2
    assert len(read(tmp_path / "**" / "b.conf").seen) == 1


def test_certbots_live_folder_shows_each_certificate_once(tmp_path: Path) -> None:
    for name, issued in (("www.example.com", WEB), ("old.example.com", EXPIRED)):
        archive, live = tmp_path / "archive" / name, tmp_path / "live" / name
        archive.mkdir(parents=True)
        live.mkdir(parents=True)
        above = issued.above[0].public_bytes(Encoding.PEM)
        parts = {"cert": issued.pem, "chain": above, "fullchain": issued.chain, "privkey": issued.key_pem}
        for part, data in parts.items():
            (archive / f"{part}7.pem").write_bytes(data)
            (live / f"{part}.pem").symlink_to(f"../../archive/{name}/{part}7.pem")
    (tmp_path / "live" / "README").write_text("This directory contains your keys and certificates.")
    reading = read(tmp_path / "live")
    assert [(Path(one.place).name, one.facts.title) for one in reading.seen] == [
        ("fullchain.pem", "old.example.com"),
        ("fullchain.pem", "www.example.com"),
    ]
    assert reading.problem == ""


def test_acme_shs_folder_too(tmp_path: Path) -> None:
    folder = tmp_path / "www.example.com_ecc"
    folder.mkdir()
    for name, data in (
        ("www.example.com.cer", WEB.pem),
        ("ca.cer", BELOW.pem),
        ("fullchain.cer", WEB.chain),
        ("www.example.com.key", WEB.key_pem),
        ("www.example.com.conf", b"Le_Domain='www.example.com'"),
    ):
        (folder / name).write_bytes(data)
    reading = read(tmp_path)
    assert [(one.place, one.facts.fingerprint) for one in reading.seen] == [
        (str(folder / "fullchain.cer"), WEB.fingerprint)
    ]
    assert reading.problem == ""


def test_a_whole_chain_hides_nothing_but_its_own_parts(tmp_path: Path) -> None:
    """Of another certificate nothing, nor a part that is another one by now; a whole one that cannot be read
    hides nothing."""
    newer = BELOW.issue("www.example.com")
    above = WEB.above[0].public_bytes(Encoding.PEM)
    for name, data in {
        "fullchain.pem": WEB.chain,
        "chain.pem": above,
        "both.pem": WEB.key_pem + WEB.chain,
        "old.pem": EXPIRED.chain,
        "cert.pem": newer.pem,
        "web.p12": WEB.pkcs12(b"secret"),
    }.items():
        (tmp_path / name).write_bytes(data)
    reading = read(tmp_path)
    assert {Path(one.place).name: one.facts.fingerprint for one in reading.seen} == {
        "fullchain.pem": WEB.fingerprint,
        "old.pem": EXPIRED.fingerprint,
        "cert.pem": newer.fingerprint,
    }
    assert reading.problem.startswith(f"{tmp_path}/web.p12 is a PKCS#12 file that cannot be opened")
    (tmp_path / "fullchain.pem").write_bytes(bad("base64"))
    assert {Path(one.place).name for one in read(tmp_path).seen} == {
        "chain.pem",
        "both.pem",
        "old.pem",
        "cert.pem",
    }


def test_the_key_beside_a_whole_chain_is_nobodys_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """certbot's may be read by root alone."""
    for name, data in {
        "fullchain.pem": WEB.chain,
        "privkey.pem": WEB.key_pem,
        "old.pem": EXPIRED.pem,
    }.items():
        (tmp_path / name).write_bytes(data)
    before = os.open

    def refuse(path: str, *given: int) -> int:
        if str(path).endswith(("privkey.pem", "old.pem")):
            raise PermissionError(13, "Permission denied")
        return before(path, *given)

    monkeypatch.setattr(files.os, "open", refuse)
    reading = read(tmp_path)
    assert fingerprints(reading) == [WEB.fingerprint]
    assert reading.problem == f"{tmp_path}/old.pem cannot be read: permission denied"


def test_nothing_of_a_folder_is_left_out_without_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other files beside them, however many; folders that are linked to, each once; and the end of a line
    behind a DER, which a DER may have as its own last byte."""
    live, elsewhere = tmp_path / "live", tmp_path / "elsewhere"
    (live / "a" / "b").mkdir(parents=True)
    (elsewhere / "deep").mkdir(parents=True)
    for n in range(10_001):
        (live / f"{n}.txt").touch()
    (live / "web.pem").write_bytes(WEB.pem.decode().encode("utf-16"))
    (live / "a" / "b" / "old.der").write_bytes(EXPIRED.der + b"\r\n")
    (elsewhere / "deep" / "ca.cer").write_bytes(ROOT.der)
    for name, to in (("0", live / "a"), ("linked", elsewhere), ("round", live), ("a/up", tmp_path)):
        (live / name).symlink_to(to)
    reading = read(live)
    assert {Path(one.place).relative_to(live).as_posix() for one in reading.seen} == {
        "web.pem",
        "a/b/old.der",
        "linked/deep/ca.cer",
    }
    assert (len(reading.seen), reading.problem) == (3, "")
    monkeypatch.setattr(files, "MOST_ENTRIES", 100)
    assert read(live).problem.startswith(f"{live} is not read further: there are more than 100 entries")


@pytest.mark.parametrize("tail", [b"", b"\n", b"\r\n\r\n", b"\0" * 512])
def test_a_der_is_read_without_what_stands_behind_it(tail: bytes) -> None:
    issued = next(one for one in iter(lambda: BELOW.issue("n.example.com"), None) if one.der.endswith(b"\n"))
    for one in (issued, WEB):
        [facts] = files.certificates(one.der + tail)
        assert facts.fingerprint == one.fingerprint
    facts, *_ = files.certificates(WEB.pkcs12(b"word") + tail, b"word")
    assert facts.fingerprint == WEB.fingerprint


def test_in_a_folder_a_broken_certificate_is_told_and_a_key_is_none(tmp_path: Path) -> None:
    key = WEB.key
    request = x509.CertificateSigningRequestBuilder().subject_name(WEB.certificate.subject)
    listed = x509.load_pem_x509_crl(ROOT.revoking(WEB))
    pkcs8 = (Encoding.DER, PrivateFormat.PKCS8)
    for name, data in {
        "web.pem": WEB.pem,
        "key.der": key.private_bytes(*pkcs8, NoEncryption()),
        "locked.der": key.private_bytes(*pkcs8, BestAvailableEncryption(b"word")),
        "public.der": key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "request.der": request.sign(key, hashes.SHA256()).public_bytes(Encoding.DER),
        "list.der": listed.public_bytes(Encoding.DER),
        "answer.der": ROOT.answering(WEB),
    }.items():
        (tmp_path / name).write_bytes(data)
    assert (len(read(tmp_path).seen), read(tmp_path).problem) == (1, "")
    (tmp_path / "cut.der").write_bytes(WEB.der[:300])
    (tmp_path / "cut.p12").write_bytes(WEB.pkcs12(None)[:300])
    why = "is neither a certificate nor a PKCS#12 file"
    assert read(tmp_path).problem == f"{tmp_path}/cut.der {why}; {tmp_path}/cut.p12 {why}"


def test_kubernetes_shows_a_secret_once_and_in_its_place(tmp_path: Path) -> None:
    """Its folders that begin with two dots have another name after each renewal."""
    for number, issued in enumerate((EXPIRED, WEB)):
        real = tmp_path / f"..2026_11_26_{number}"
        (real / "shop").mkdir(parents=True)
        for name in ("tls.crt", "shop/tls.crt"):
            (real / name).write_bytes(issued.chain)
        (tmp_path / "..new").symlink_to(real.name)
        (tmp_path / "..new").rename(tmp_path / "..data")
        if not number:
            (tmp_path / "tls.crt").symlink_to("..data/tls.crt")
            (tmp_path / "shop").symlink_to("..data/shop")
        assert [(one.place, one.facts.fingerprint) for one in read(tmp_path).seen] == [
            (f"{tmp_path}/tls.crt", issued.fingerprint),
            (f"{tmp_path}/shop/tls.crt", issued.fingerprint),
        ]


def test_a_files_name_may_have_any_bytes(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/\xff\n\xe2\x80\xaetxt.pem"
    with open(name, "wb") as file:
        file.write(WEB.pem)
    [seen] = read(tmp_path).seen
    assert seen.place.isprintable()
    assert seen.place.startswith(f"{tmp_path}/")


def test_no_two_files_are_one_place(tmp_path: Path) -> None:
    """Names that differ in a byte that is no UTF-8, in a blank, or behind five hundred characters."""
    long = tmp_path / ("x" * 250) / ("y" * 250)
    long.mkdir(parents=True)
    here = os.fsencode(tmp_path)
    names = [here + b"/caf\xe9.pem", here + b"/caf\xe8.pem", here + b"/a  b.pem", here + b"/a b.pem"]
    names += [os.fsencode(long) + b"/a.pem", os.fsencode(long) + b"/b.pem"]
    for name in names:
        with open(name, "wb") as file:
            file.write(WEB.pem)
    reading = read(tmp_path)
    places = [one.place for one in reading.seen]
    assert len(set(places)) == len(names)
    assert all(len(place) <= 500 and place.isprintable() for place in places)
    assert f"{tmp_path}/a b.pem" in places
    assert [one.place for one in read(tmp_path).seen] == places


@pytest.mark.parametrize("name", [b"caf\xe9 ", b"x" * 250])
def test_what_is_in_an_odd_folder_that_cannot_be_read_is_not_gone(
    name: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, scan = os.fsencode(tmp_path) + b"/" + name, os.scandir
    os.mkdir(folder)
    with open(folder + b"/web.pem", "wb") as file:
        file.write(WEB.pem)
    [seen] = read(tmp_path).seen

    def refuse(path: str) -> object:
        if path != str(tmp_path):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(files.os, "scandir", refuse)
    reading = read(tmp_path)
    assert reading.problem.endswith("cannot be read: permission denied")
    assert not reading.tells_of(seen.place)


NAMES = ["a\x00b.example.com", "x\u202emoc.elpmaxe", "", "*" * 3000, "bücher.example", "a\nb"]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_name_may_be_anything(name: str, tmp_path: Path) -> None:
    odd = x509.SubjectAlternativeName([x509.DNSName._init_without_validation(name)])
    issued = BELOW.issue(extensions=[odd], common_name="odd")
    (tmp_path / "odd.pem").write_bytes(issued.pem)
    reading = read(tmp_path)
    assert fingerprints(reading) == [issued.fingerprint]
    assert all(len(one) <= 255 for one in reading.seen[0].facts.names)


def test_ten_thousand_names_are_a_hundred(tmp_path: Path) -> None:
    issued = BELOW.issue(*(f"host-{n}.example.com" for n in range(10_000)))
    (tmp_path / "many.pem").write_bytes(issued.pem)
    assert len(read(tmp_path).seen[0].facts.names) == 100


def test_many_certificates_in_a_file_have_an_end(tmp_path: Path) -> None:
    issued = [BELOW.issue(f"host-{n}.example.com").pem for n in range(300)]
    (tmp_path / "many.pem").write_bytes(b"".join(issued))
    reading = read(tmp_path)
    assert len(reading.seen) == 200
    assert reading.problem.endswith("many.pem has more than 200 certificates, and the rest is not read")


@pytest.mark.parametrize(
    ("since", "until"),
    [
        (NOW.replace(year=1950), NOW.replace(year=1969)),
        (NOW, NOW.replace(year=9999, month=12, day=31, hour=23, minute=59, second=59)),
    ],
)
def test_dates_may_be_far_away(since: object, until: object, tmp_path: Path) -> None:
    issued = BELOW.issue("far.example.com", since=since, until=until)  # type: ignore[arg-type]
    (tmp_path / "far.pem").write_bytes(issued.pem)
    [seen] = read(tmp_path).seen
    assert (seen.facts.not_before, seen.facts.not_after) == (since, until)


def test_a_year_before_the_first_is_no_date(tmp_path: Path) -> None:
    """What no certificate should hold, and one may: a time that is none."""
    der = WEB.der.replace(b"\x17\x0d", b"\x17\x0d", 1)
    start = der.index(b"\x17\x0d")
    broken = der[: start + 2] + b"000000000000Z" + der[start + 15 :]
    (tmp_path / "zero.der").write_bytes(broken)
    assert read(tmp_path / "zero.der").problem != ""


@given(st.binary(max_size=400) | st.integers(0, len(WEB.der) - 1).map(lambda n: WEB.der[:n]))
@example(b"-----BEGIN CERTIFICATE-----" * 1000)
@settings(deadline=None, derandomize=True)
def test_any_bytes_are_certificates_or_one_line(data: bytes) -> None:
    mutated = bytearray(WEB.der)
    for n, byte in enumerate(data[:20]):
        mutated[byte * 7 % len(mutated)] ^= n + 1
    assert all("\n" not in refusal(bytes_) for bytes_ in (data, bytes(mutated)))


def refusal(data: bytes) -> str:
    """Why they are none; anything else that is raised fails the test."""
    try:
        files.certificates(data)
    except Unreadable as why:
        return str(why)
    return ""


def test_a_file_that_begins_and_begins_is_read_in_no_time() -> None:
    began = time.process_time()
    with pytest.raises(Unreadable):
        files.certificates(b"-----BEGIN CERTIFICATE-----" * 40_000)
    assert time.process_time() - began < 2


def test_a_disk_that_hangs_holds_up_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing else can hang an open file for ever in a test: the reading of one is held by hand."""
    (tmp_path / "web.pem").write_bytes(WEB.pem)
    let_go, before = threading.Event(), files.read

    def hang(target: files.Files, now: object, password_file: str) -> Reading:
        if target.path == "/mnt/hangs":
            let_go.wait(60)
        return before(target, NOW, password_file)

    monkeypatch.setattr(files, "read", hang)
    monkeypatch.setattr(looking, "FILE_SECONDS", 0.5)
    watches = [Watch(target=target) for target in ("/mnt/hangs", str(tmp_path / "web.pem"))]
    try:
        readings = looking.look_at_all(watches, NOW)
    finally:
        let_go.set()
    assert readings[0] == Reading(problem="nothing could be read within 0.5 s")
    assert fingerprints(readings[1]) == [WEB.fingerprint]
