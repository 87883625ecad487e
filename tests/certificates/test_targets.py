from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from notifications.certificates.targets import BadTarget, Endpoint, Files, parse


@pytest.mark.parametrize(
    ("written", "target", "shown"),
    [
        ("example.com", Endpoint("example.com", 443), "example.com:443"),
        (" EXAMPLE.com.:8443 ", Endpoint("example.com", 8443), "example.com:8443"),
        ("https://example.com/", Endpoint("example.com", 443), "example.com:443"),
        ("imaps://mail.example.com", Endpoint("mail.example.com", 993), "mail.example.com:993"),
        ("bücher.example", Endpoint("xn--bcher-kva.example", 443), "xn--bcher-kva.example:443"),
        ("_srv.example.com", Endpoint("_srv.example.com", 443), "_srv.example.com:443"),
        ("192.0.2.7:8443", Endpoint("192.0.2.7", 8443), "192.0.2.7:8443"),
        ("[2001:DB8::1]:8443", Endpoint("2001:db8::1", 8443), "[2001:db8::1]:8443"),
        ("2001:db8::1", Endpoint("2001:db8::1", 443), "[2001:db8::1]:443"),
        ("localhost:8443", Endpoint("localhost", 8443), "localhost:8443"),
        (
            "www.example.com@192.0.2.7:443",
            Endpoint("192.0.2.7", 443, "www.example.com"),
            "www.example.com@192.0.2.7:443",
        ),
        ("smtp://mx.example.com", Endpoint("mx.example.com", 25, "", "smtp"), "smtp://mx.example.com:25"),
        ("mx.example.com:587", Endpoint("mx.example.com", 587, "", "smtp"), "smtp://mx.example.com:587"),
        ("tls://mx.example.com:587", Endpoint("mx.example.com", 587), "tls://mx.example.com:587"),
        (
            "db.example.com:5432",
            Endpoint("db.example.com", 5432, "", "postgres"),
            "postgres://db.example.com:5432",
        ),
        (
            "ldap://ad.example.com:3268",
            Endpoint("ad.example.com", 3268, "", "ldap"),
            "ldap://ad.example.com:3268",
        ),
        ("/etc/ssl/../ssl/web.pem", Files("/etc/ssl/web.pem"), "/etc/ssl/web.pem"),
        ("file:///etc/ssl/*.pem", Files("/etc/ssl/*.pem"), "/etc/ssl/*.pem"),
    ],
)
def test_what_is_written_is_a_target_with_one_way_to_write_it(
    written: str, target: Endpoint | Files, shown: str
) -> None:
    assert parse(written) == target
    assert str(target) == shown
    assert parse(shown) == target


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("", "no target is named"),
        (":443", "no host is named"),
        ("https://", "no host is named"),
        ("@192.0.2.7", "there is no server name before the @"),
        ("*.example.com", "a wildcard is no host: name one that has the certificate"),
        ("example.com:0", "a port is a number from 1 to 65535"),
        ("example.com:65536", "a port is a number from 1 to 65535"),
        ("example.com:٤٤٣", "a port is a number from 1 to 65535"),
        ("example.com/path", "a server has no path; a file's begins with / or ./"),
        ("web.pem", "write ./ before a file's name"),
        ("ftp://example.com", "the protocol is none of tls, https"),
        ("a..example.com", "the host is neither a name nor an address"),
        ("exa mple.com", "the host is neither a name nor an address"),
        ("1.2.3.4.5", "the host is neither a name nor an address"),
        (f"{'a' * 64}.example.com", "the host is neither a name nor an address"),
        ("fe80::1%eth0", "an address with a zone is none to watch"),
        ("[2001:db8::1", "an IPv6 address is written [2001:db8::1]:443"),
        ("example\x00.com", "a target is one line of printable characters"),
        ("example.com\n/etc/shadow", "a target is one line of printable characters"),
        ("/" + 500 * "a", "a target has at most 500 characters"),
        ("file://etc/web.pem", "file:// is followed by a full path"),
    ],
)
def test_what_is_none_is_refused_in_one_line(written: str, why: str) -> None:
    with pytest.raises(BadTarget) as refused:
        parse(written)
    assert str(refused.value).startswith(why)


@given(st.text() | st.from_regex(r"[a-z]{0,6}(://)?[\w@.:\[\]*/-]{0,40}"))
@example("a@b@c:443")
@example("\udc80")
@settings(deadline=None, derandomize=True)
def test_any_text_is_a_target_that_reads_the_same_or_is_refused(text: str) -> None:
    assert "\n" not in refusal(text)


def refusal(text: str) -> str:
    try:
        target = parse(text)
    except BadTarget as why:
        return str(why)
    assert parse(str(target)) == target
    return ""
