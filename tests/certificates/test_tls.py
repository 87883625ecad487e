"""What servers show, or do instead: each a real one on loopback."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from OpenSSL import SSL

from notifications.certificates import round as looking
from notifications.certificates.models import Watch
from notifications.certificates.readings import Reading
from notifications.certificates.targets import Endpoint, parse
from notifications.certificates.verdicts import Verdict, matches
from tests.certificates.authority import (
    DAY,
    MAY_ANSWER,
    NOW,
    WHERE_ISSUER,
    Authority,
    Issued,
    short_key,
    signed_with,
)
from tests.certificates.servers import Servers, closed_port

ROOT = Authority()
BELOW = Authority("Tests' Intermediate", ROOT)
OF_RSA = Authority("Tests' Intermediate with RSA", ROOT, key=rsa.generate_private_key(65537, 2048))
WEB = BELOW.issue("www.example.com", "127.0.0.1", extensions=[WHERE_ISSUER])
SECONDS = 20.0  # what is there comes at once, where the machine has a moment


@pytest.fixture
def trusted(tmp_path: Path) -> str:
    file = tmp_path / "root.pem"
    file.write_bytes(ROOT.pem)
    return str(file)


def look(*targets: str, ca_file: str = "", seconds: float = SECONDS) -> list[Reading]:
    watches = [Watch(target=str(parse(target)), ca_file=ca_file) for target in targets]
    return looking.look_at_all(watches, NOW, seconds=seconds)


def verdicts(target: str, ca_file: str) -> set[Verdict]:
    [reading] = look(target, ca_file=ca_file)
    [seen] = reading.seen
    return set(seen.verdicts)


def test_a_server_shows_its_certificate(servers: Servers, tmp_path: Path, trusted: str) -> None:
    port = servers.tls(WEB.context(tmp_path))
    [reading] = look(f"www.example.com@127.0.0.1:{port}", ca_file=trusted)
    assert reading.problem == ""
    [seen] = reading.seen
    assert seen.facts.fingerprint == WEB.fingerprint
    assert seen.place == f"www.example.com@127.0.0.1:{port}"
    assert seen.verdicts == ()
    assert verdicts(f"127.0.0.1:{port}", trusted) == set()


def test_another_authoritys_certificates_are_judged_as_well(servers: Servers, tmp_path: Path) -> None:
    """trustme's, which is not made after our own idea of one: an intermediate above, an address as a name."""
    root = trustme.CA()
    below = root.create_child_ca()
    root.cert_pem.write_to_path(str(tmp_path / "trustme.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    below.issue_cert("127.0.0.1", "www.example.com").configure_cert(context)
    port = servers.tls(context)
    assert verdicts(f"127.0.0.1:{port}", str(tmp_path / "trustme.pem")) == set()
    assert verdicts(f"other.example.com@127.0.0.1:{port}", str(tmp_path / "trustme.pem")) == {
        Verdict.WRONG_NAME
    }
    (tmp_path / "ours.pem").write_bytes(ROOT.pem)
    assert verdicts(f"127.0.0.1:{port}", str(tmp_path / "ours.pem")) == {Verdict.UNKNOWN_ISSUER}


def test_it_is_asked_by_name(servers: Servers, tmp_path: Path, trusted: str) -> None:
    other = BELOW.issue("other.example.com")
    contexts = {"other.example.com": other.context(tmp_path), "www.example.com": WEB.context(tmp_path)}
    asked: list[str | None] = []

    def choose(tls: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        asked.append(name)
        tls.context = contexts.get(name or "", contexts["www.example.com"])

    context = WEB.context(tmp_path)
    context.sni_callback = choose  # type: ignore[assignment]
    port = servers.tls(context)
    readings = look(f"other.example.com@127.0.0.1:{port}", f"127.0.0.1:{port}")
    assert [one.seen[0].facts.fingerprint for one in readings] == [other.fingerprint, WEB.fingerprint]
    assert asked == ["other.example.com", None]


OF_DATES = ("expired", "young", "old intermediate")
WRONG = {
    "expired": {Verdict.EXPIRED},
    "young": {Verdict.NOT_YET_VALID},
    "wrong name": {Verdict.WRONG_NAME},
    "self-signed": {Verdict.UNKNOWN_ISSUER},
    "unknown": {Verdict.UNKNOWN_ISSUER},
    "incomplete": {Verdict.INCOMPLETE_CHAIN},
    "weak key": {Verdict.WEAK_KEY},
    "SHA-1": {Verdict.WEAK_SIGNATURE},
    "MD5": {Verdict.WEAK_SIGNATURE},
    "SHA-1 above": {Verdict.WEAK_SIGNATURE},
    "old intermediate": {Verdict.CHAIN_EXPIRED},
    "all at once": {Verdict.EXPIRED, Verdict.WRONG_NAME, Verdict.WEAK_KEY, Verdict.UNKNOWN_ISSUER},
}


def wrong(kind: str, folder: Path) -> ssl.SSLContext:
    name = "127.0.0.1"
    if kind == "expired":
        return BELOW.issue(name, since=NOW - 100 * DAY).context(folder)
    if kind == "young":
        return BELOW.issue(name, since=NOW + DAY).context(folder)
    if kind == "wrong name":
        return BELOW.issue("www.example.com").context(folder)
    if kind == "self-signed":
        alone = Authority(name)
        return alone.issue(name, common_name=name).context(folder)
    if kind == "unknown":
        return Authority("Nobody", Authority("Nobody's Root")).issue(name).context(folder)
    if kind == "incomplete":
        return WEB.context(folder, chain=False)
    if kind == "weak key":
        return BELOW.issue(name, key=short_key()).context(folder)
    if kind in ("SHA-1", "MD5"):
        hashed, made = {"SHA-1": hashes.SHA1(), "MD5": hashes.MD5()}[kind], OF_RSA.issue(name)
        weak = signed_with(hashed, OF_RSA.key, made.certificate)
        return Issued(weak, made.key, made.above).context(folder)
    if kind == "SHA-1 above":
        below = Authority("Weak", OF_RSA)
        below.certificate = signed_with(hashes.SHA1(), OF_RSA.key, below.certificate)
        return below.issue(name).context(folder)
    if kind == "old intermediate":
        return Authority("Old", ROOT, until=NOW - DAY).issue(name).context(folder)
    return Authority("Nobody").issue("x.example.com", since=NOW - 100 * DAY, key=short_key()).context(folder)


@pytest.mark.parametrize("kind", WRONG)
def test_the_handshake_takes_what_a_client_that_verifies_refuses_and_says_why(
    kind: str, servers: Servers, tmp_path: Path, trusted: str
) -> None:
    port = servers.tls(wrong(kind, tmp_path))
    assert verdicts(f"127.0.0.1:{port}", trusted) == WRONG[kind]
    assert refused_by_a_client_that_verifies(port, trusted) or kind in (
        "expired",
        "young",
        "old intermediate",
    )


def refused_by_a_client_that_verifies(port: int, trusted: str) -> bool:
    context = ssl.create_default_context(cafile=trusted)
    with socket.create_connection(("127.0.0.1", port), timeout=20) as raw:
        try:
            context.wrap_socket(raw, server_hostname="127.0.0.1").close()
        except ssl.SSLError:
            return True
    return False


def test_what_its_issuer_has_revoked_is_said(servers: Servers, tmp_path: Path) -> None:
    """The lists are beside the roots, as others' clients have them; nobody is asked for one."""
    good, bad = (BELOW.issue(name, "127.0.0.1") for name in ("good.example.com", "bad.example.com"))
    ports = [servers.tls(one.context(tmp_path)) for one in (good, bad)]
    stranger = Authority("Tests' Intermediate", ROOT)  # the same name, another key
    by_lists = {
        "leaf": (BELOW.revoking(bad), [set(), {Verdict.REVOKED}]),
        "old list": (BELOW.revoking(bad, until=NOW - DAY), [set(), {Verdict.REVOKED}]),
        "above": (ROOT.revoking(BELOW), [{Verdict.CHAIN_REVOKED}, {Verdict.CHAIN_REVOKED}]),
        "nobody": (BELOW.revoking(), [set(), set()]),
        "not its issuer": (ROOT.revoking(bad), [set(), set()]),
        "not its key": (stranger.revoking(bad), [set(), set()]),
    }
    for name, (listed, expected) in by_lists.items():
        file = tmp_path / f"{name}.pem"
        file.write_bytes(ROOT.pem + listed)
        assert [verdicts(f"127.0.0.1:{port}", str(file)) for port in ports] == expected, name
    broken = tmp_path / "broken.pem"
    broken.write_bytes(ROOT.pem + BELOW.revoking(bad)[:100])
    [reading] = look(f"127.0.0.1:{ports[1]}", ca_file=str(broken))
    assert reading == Reading(problem="the CA file has a revocation list that cannot be read")


@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
def test_a_revocation_that_the_server_itself_staples_is_said(
    version: int, servers: Servers, tmp_path: Path, trusted: str
) -> None:
    issued = OF_RSA.issue("www.example.com", "127.0.0.1")
    stranger = Authority("Tests' Intermediate with RSA", ROOT, key=rsa.generate_private_key(65537, 2048))
    delegate = OF_RSA.issue("ocsp.example.com", extensions=[MAY_ANSWER], key=Ed25519PrivateKey.generate())
    says = {
        OF_RSA.answering(issued): {Verdict.REVOKED},
        OF_RSA.answering(issued, since=NOW - 100 * DAY): {Verdict.REVOKED},
        OF_RSA.answering(issued, by=delegate): {Verdict.REVOKED},
        OF_RSA.answering(issued, revoked=False): set(),
        OF_RSA.answering(issued, by=OF_RSA.issue("www.example.org")): set(),
        OF_RSA.answering(issued, by=stranger.issue("ocsp.example.com", extensions=[MAY_ANSWER])): set(),
        OF_RSA.answering(OF_RSA.issue("www.example.com")): set(),
        stranger.answering(issued): set(),
        ROOT.answering(issued): set(),
        ocsp.OCSPResponseBuilder.build_unsuccessful(
            ocsp.OCSPResponseStatus.TRY_LATER
        ).public_bytes(Encoding.DER): set(),
        b"no response": set(),
        b"": set(),
    }  # fmt: skip
    ports = [servers.stapling(issued, staple, version=version) for staple in says]
    assert [verdicts(f"127.0.0.1:{port}", trusted) for port in ports] == list(says.values())


def test_a_staple_is_judged_where_a_list_says_nothing_and_no_root_is_known(
    servers: Servers, tmp_path: Path
) -> None:
    """By whoever signed the certificate, of those that the server sends."""
    issued = BELOW.issue("127.0.0.1")
    root = tmp_path / "stranger.pem"
    root.write_bytes(Authority("Another Root").pem + BELOW.revoking())
    port = servers.stapling(issued, BELOW.answering(issued))
    assert verdicts(f"127.0.0.1:{port}", str(root)) == {Verdict.UNKNOWN_ISSUER, Verdict.REVOKED}


def test_old_versions_and_ciphers_are_no_obstacle(servers: Servers, tmp_path: Path) -> None:
    context = BELOW.issue("127.0.0.1").context(tmp_path)
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.maximum_version = ssl.TLSVersion.TLSv1
    [reading] = look(f"127.0.0.1:{servers.tls(context)}")
    assert reading.problem == ""


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_server_that_wants_a_certificate_of_ours_has_shown_its_own(
    version: ssl.TLSVersion, servers: Servers, tmp_path: Path
) -> None:
    context = WEB.context(tmp_path)
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = context.maximum_version = version
    [reading] = look(f"127.0.0.1:{servers.tls(context)}")
    assert [one.facts.fingerprint for one in reading.seen] == [WEB.fingerprint]


LDAP_YES = bytes.fromhex("300c02010178070a010004000400")
LDAP_LONG = bytes.fromhex("30840000000c02010178070a010004000400")
LDAP_NO = bytes.fromhex("300c02010178070a013504000400")
SPOKEN = {
    "smtp": [
        (b"220-mx.example.com\r\n220 ready\r\n", b"EHLO "),
        (b"250-mx.example.com\r\n250-PIPELINING\r\n250 STARTTLS\r\n", b"STARTTLS"),
        (b"220 go ahead\r\n", b""),
    ],
    "imap": [(b"* OK ready\r\n", b"a1 STARTTLS"), (b"* CAPABILITY IMAP4\r\na1 OK begin\r\n", b"")],
    "pop3": [(b"+OK ready\r\n", b"STLS"), (b"+OK begin\r\n", b"")],
    "postgres": [(b"", 8), (b"S", b"")],
    "ldap": [(b"", 31), (LDAP_YES, b"")],
}


@pytest.mark.parametrize("protocol", SPOKEN)
def test_starttls_is_spoken(protocol: str, servers: Servers, tmp_path: Path) -> None:
    port = servers.after(WEB.context(tmp_path), SPOKEN[protocol])
    [reading] = look(f"{protocol}://127.0.0.1:{port}")
    assert (reading.problem, len(reading.seen)) == ("", 1)
    assert reading.seen[0].facts.fingerprint == WEB.fingerprint


def test_ldap_in_long_form_too(servers: Servers, tmp_path: Path) -> None:
    port = servers.after(WEB.context(tmp_path), [(b"", 31), (LDAP_LONG, b"")])
    assert look(f"ldap://127.0.0.1:{port}")[0].problem == ""


def test_a_real_postgresql_protocol_refusal(servers: Servers, tmp_path: Path) -> None:
    port = servers.after(WEB.context(tmp_path), [(b"", 8), (b"N", b"")])
    assert look(f"postgres://127.0.0.1:{port}")[0].problem == "the server offers no TLS"


REFUSALS = [
    (
        "smtp",
        [(b"220 ready\r\n", b"EHLO"), (b"250 mx.example.com\r\n", b"")],
        "the server offers no STARTTLS",
    ),
    ("smtp", [(b"554 go away\r\n", b"")], "the server answered 554 go away"),
    ("smtp", [(b"220 ready\r\n", b"EHLO"), (b"250-x\r\n" * 200, b"")], "the server does not stop talking"),
    ("smtp", [(b"220 " + b"x" * 200_000, b"")], "the server's line does not end"),
    ("imap", [(b"* BYE \x1b[31mno\r\n", b"")], "the server answered * BYE \N{REPLACEMENT CHARACTER}[31mno"),
    ("imap", [(b"* OK\r\n", b"a1"), (b"a1 NO not here\r\n", b"")], "the server answered a1 NO not here"),
    ("pop3", [(b"-ERR\r\n", b"")], "the server answered -ERR"),
    ("postgres", [(b"", 8), (b"E", b"")], "the server does not speak PostgreSQL's protocol"),
    ("ldap", [(b"", 31), (LDAP_NO, b"")], "the server refuses STARTTLS: LDAP result 53"),
    ("ldap", [(b"", 31), (b"HTTP/1.1 400\r\n\r\n", b"")], "the server does not speak LDAP"),
    ("ldap", [(b"", 31), (b"\x30\x05\x02\x01\x01\x61\x00", b"")], "the server does not speak LDAP"),
]


@pytest.mark.parametrize(("protocol", "said", "why"), REFUSALS)
def test_what_will_not_start_tls_is_one_line(
    protocol: str, said: list[tuple[bytes, bytes | int]], why: str, servers: Servers, tmp_path: Path
) -> None:
    port = servers.after(WEB.context(tmp_path), said)
    assert look(f"{protocol}://127.0.0.1:{port}") == [Reading(problem=why)]


def test_what_speaks_no_tls_drips_hangs_or_ends_is_one_line_and_stops_nobody(
    servers: Servers, tmp_path: Path
) -> None:
    good = servers.tls(WEB.context(tmp_path))
    flood = b"\x16\x03\x03\x40\x00\x0b\x3f\xff\xff" + bytes(2**14 - 4)
    expected = {
        servers.saying(b"HTTP/1.1 400 Bad Request\r\n\r\n"): "the server does not speak TLS",
        servers.saying(b"SSH-2.0-OpenSSH_9.9\r\n", ends=False): "the server does not speak TLS",
        servers.saying(b""): "the server ended the connection before it sent a certificate",
        servers.saying(b"", ends=False): "no certificate came within 5 s",
        servers.dripping(): "no certificate came within 5 s",
        servers.endless(b"\x16\x03\x03\x00\x00"): None,
        servers.endless(flood): None,
        servers.endless(b"220-still here\r\n"): "the server does not speak TLS",
        closed_port(): "no connection: ",
    }
    readings = look(*(f"127.0.0.1:{port}" for port in (*expected, good)), seconds=5.0)
    for said, reading in zip(expected.values(), readings, strict=False):
        assert not reading.seen
        assert reading.problem
        assert reading.problem.startswith(said or "")
    assert readings[-1].seen[0].facts.fingerprint == WEB.fingerprint


def test_ten_thousand_certificates_are_too_many(servers: Servers, tmp_path: Path) -> None:
    context = WEB.context(tmp_path)
    file = tmp_path / "many.pem"
    file.write_bytes(WEB.key_pem + WEB.pem + BELOW.pem * 10_000)
    context.load_cert_chain(file)
    [reading] = look(f"127.0.0.1:{servers.tls(context)}", seconds=20)
    assert reading == Reading(problem="the server sends more than 100 kB of certificates")


def test_a_name_without_an_address_is_one_line() -> None:
    [reading] = look("nowhere.invalid", seconds=20)
    assert reading.problem.startswith(("the name has no address", "no connection", "no certificate came"))


def test_a_ca_file_without_a_certificate_is_said(servers: Servers, tmp_path: Path) -> None:
    port = servers.tls(WEB.context(tmp_path))
    [reading] = look(f"127.0.0.1:{port}", ca_file=str(tmp_path / "none.pem"))
    assert reading.problem == "the CA file has no certificate, or cannot be read"


def test_no_more_are_asked_at_once_than_may_be(servers: Servers, tmp_path: Path) -> None:
    port = servers.tls(WEB.context(tmp_path))
    watches = [Watch(target=str(Endpoint("127.0.0.1", port, f"host-{n}.example.com"))) for n in range(50)]
    readings = looking.look_at_all(watches, NOW, at_once=3, seconds=20)
    assert [one.problem for one in readings] == [""] * 50


@pytest.mark.parametrize(
    ("names", "wanted", "right"),
    [
        (["www.example.com"], "WWW.example.com.", True),
        (["*.example.com"], "www.example.com", True),
        (["*.example.com"], "example.com", False),
        (["*.example.com"], "a.b.example.com", False),
        (["*.com"], "example.com", False),
        (["*"], "localhost", False),
        (["w*.example.com"], "www.example.com", False),
        (["www.example.com\x00.evil.test"], "www.example.com", False),
        (["192.0.2.7"], "192.0.2.7", True),
        (["*.0.2.7"], "192.0.2.7", False),
        (["2001:db8::1"], "2001:db8:0::1", True),
    ],
)
def test_names_are_compared_as_clients_do(names: list[str], wanted: str, right: bool) -> None:
    assert matches(names, wanted) is right
