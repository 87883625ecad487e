"""All that a target can be or do instead of showing a certificate, in one round: a line for each, and it goes
on. Each a real server or a real file."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from django.test import Client
from django.utils import timezone

from notifications.certificates import metrics
from notifications.certificates.models import Certificate, Sighting, Watch
from tests.certificates.authority import DAY, Authority
from tests.certificates.servers import Servers, closed_port
from tests.certificates.support import alerts, watch
from tests.management.support import Run

pytestmark = pytest.mark.django_db
CA = Authority()
BELOW = Authority("Tests' Intermediate", CA)
WEB = BELOW.issue("www.example.com", "127.0.0.1")
FIRST, LAST = datetime(1951, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
ODD = ["a\x00b.example.com", "evil\u202emoc.elpmaxe", "<b>x</b>", "\u2067"]


def odd_context(servers: Servers, folder: Path) -> dict[str, str]:
    """Targets whose certificates have what none should: each is read all the same."""
    names = x509.SubjectAlternativeName([x509.DNSName._init_without_validation(name) for name in ODD])
    issued = {
        "names": CA.issue(extensions=[names], common_name="odd"),
        "before 1970": CA.issue("old.example.com", since=FIRST, until=FIRST + 90 * DAY),
        "year 9999": CA.issue("far.example.com", since=timezone.now().replace(microsecond=0), until=LAST),
        "ends before it begins": CA.issue("odd.example.com", since=FIRST, until=FIRST),
        "nobody's": CA.issue(common_name="nobody"),
    }
    return {kind: f"127.0.0.1:{servers.tls(one.context(folder))}" for kind, one in issued.items()}


def bad_servers(servers: Servers, folder: Path) -> dict[str, str]:
    """Targets, and how the line about each begins."""
    many = WEB.context(folder)
    file = folder / "many"
    file.write_bytes(WEB.key_pem + WEB.pem + BELOW.pem * 10_000)
    many.load_cert_chain(file)
    ports = {
        servers.dripping(): "no certificate came within 1 s",
        servers.saying(b"", ends=False): "no certificate came within 1 s",
        servers.saying(b""): "the server ended the connection before it sent a certificate",
        servers.saying(b"HTTP/1.1 400 Bad Request\r\n\r\n"): "the server does not speak TLS",
        servers.endless(b"220-still here\r\n"): "the server does not speak TLS",
        servers.tls(many): "the server sends more than 100 kB of certificates",
        closed_port(): "no connection: ",
    }
    return {f"127.0.0.1:{port}": said for port, said in ports.items()}


def bad_files(folder: Path) -> dict[str, str]:
    held = {
        "empty.pem": (b"", "has no certificate"),
        "key.pem": (WEB.key_pem, "has a private key and no certificate"),
        "long.pem": (WEB.pem * 80_000, "is longer than 1 MiB: no certificate is"),
        "cut.pem": (WEB.pem[:300], "is no certificate"),
        "java.jks": (b"\xfe\xed\xfe\xed\x00\x00\x00\x02", "is a Java keystore of the old kind"),
    }
    for name, (data, _) in held.items():
        (folder / name).write_bytes(data)
    return {str(folder / name): said for name, (_, said) in held.items()} | {
        str(folder / "none.pem"): "there is no such file"
    }


def test_one_line_each_and_never_a_stopped_round(run: Run, servers: Servers, tmp_path: Path) -> None:
    bad = bad_servers(servers, tmp_path) | bad_files(tmp_path)
    odd = odd_context(servers, tmp_path)
    good = f"127.0.0.1:{servers.tls(WEB.context(tmp_path))}"
    refused = run(
        "add", "*.example.com", ":443", "https://", "web.pem", "a\u202eb/c", "--notify", "Slack:#pki"
    )
    assert (refused.code, Watch.objects.count()) == (2, 0)
    assert refused.err.count("\n") == 1
    for target in (*bad, *odd.values(), good):
        watch(target)
    ran = run("check", "--timeout", "1s")
    assert ran.code == 0
    told = dict(line.split(": ", 1) for line in ran.err.splitlines())
    assert set(told) == set(bad)
    assert all(told[target].startswith(said) for target, said in bad.items()), told
    assert ran.out.startswith(f"{len(bad) + len(odd) + 1} looked at, {len(odd) + 1} certificates, ")
    assert Sighting.objects.filter(watch__target=good).exists()
    for event in alerts():
        assert not {"\x00", "\u202e", "\u2067"} & set(event.message)


def test_what_is_odd_is_shown_everywhere(
    run: Run, servers: Servers, tmp_path: Path, admin_client: Client
) -> None:
    for target in odd_context(servers, tmp_path).values():
        watch(target)
    run("check", "--timeout", "20s")
    assert Certificate.objects.count() == 5
    app = "/admin/notifications_certificates/"
    calendar = f"{app}certificate/calendar/"
    pages = [f"{app}certificate/", f"{app}watch/", calendar, f"{calendar}?by=month"]
    pages += [f"{app}certificate/{one.pk}/change/" for one in Certificate.objects.all()]
    pages += [f"{app}watch/{one.pk}/change/" for one in Watch.objects.all()]
    pages += ["/api/v1/certificates", "/api/v1/watches"]
    pages += [f"/api/v1/certificates/{one.fingerprint}" for one in Certificate.objects.all()]
    for zone in ("Pacific/Auckland", "America/New_York"):
        with timezone.override(zone):
            for page in pages:
                response = admin_client.get(page)
                assert response.status_code == 200, page
                assert "\u202e" not in response.content.decode()
    for target in Watch.objects.values_list("target", flat=True):
        assert run("show", target).code == 0
    assert run("list").code == 0
    assert list(metrics.families())
