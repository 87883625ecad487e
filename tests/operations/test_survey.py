"""Errors that say the same thing are one group, on every database."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from notifications.deaths.fingerprints import FOLD, NOTHING, fingerprint, pattern
from notifications.models import NotificationEvent
from notifications.operations.filters import alike
from notifications.operations.survey import grouped
from notifications.text import TRACEBACK, tidy
from tests.factories import ago, dead

WORDS = st.sampled_from(
    "HTTP SMTP status [Errno 503 503: 111] 550; down ops@example.com 10.0.0.1 a.b (no error) é 5 https://h/x"
    f" . \\d v1.2 * {'x' * 41} {'x' * 40} {FOLD}".split()
)
FRAMES = st.sampled_from(
    ['  File "/srv/a.py", line 7, in run\n    go()\n', '  File "b.py", line 8\n', "    ^\n", "\n", "In it:\n"]
)
NAMES = st.sampled_from(
    ["ValueError:", "KeyError", "requests.ReadTimeout:", "a.b. c", "OAuth2Error:", " ", "Http404", ""]
)
TRACEBACKS = st.builds(
    lambda frames, name, words: f"{TRACEBACK}\n{''.join(frames)}{name} {' '.join(words)}",
    *(st.lists(FRAMES, max_size=5), NAMES, st.lists(WORDS, max_size=3)),
)
TEXTS = TRACEBACKS | st.lists(st.one_of(WORDS, st.text(max_size=12)), max_size=20).flatmap(
    lambda words: st.sampled_from([" ", "  ", "\n", "\t "]).map(lambda blank: blank.join(words))
)


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("HTTP 503: upstream is down", "HTTP 503: upstream is down"),
        ("HTTP 404: request 17 was lost", "HTTP 404: request … was lost"),
        ("SMTP 550 mailbox ops@example.com unavailable", "SMTP 550 mailbox … unavailable"),
        ("no answer from https://h.example.com/a in 30 s", "no answer from … in … s"),
        ("connection to 10.0.0.7:443 refused", "connection to … refused"),
        ("id 6f1c2a34-7a0e-4a59-9d0d-6a2d1f2b3c4d unknown", "id … unknown"),
        ("timed   out\n\tafter 30 s", "timed out after … s"),
        ("[Errno 111] Connection refused", "[Errno 111] Connection refused"),
        ("OAuth2Error: no token 7", "OAuth2Error: no token …"),
        ("", NOTHING),
        (None, NOTHING),
    ],
)
def test_numbers_ids_and_addresses_are_folded(text: str | None, folded: str) -> None:
    assert fingerprint(text) == folded


FRAME = TRACEBACK + '\n  File "/srv/app/{}.py", line {}, in send\n    self.post(message)\n'


@pytest.mark.parametrize(
    ("raised", "folded"),
    [
        ("ValueError: no team 7", "ValueError: no team …"),
        ("KeyError: 'team'", "KeyError: 'team'"),
        ("requests.exceptions.ReadTimeout: after 30 s", "ReadTimeout: after … s"),
        ("boto3.S3UploadFailedError: no bucket", "S3UploadFailedError: no bucket"),
        ("TimeoutError", "TimeoutError"),
        ("ValueError: two\n  lines 2", "ValueError: two lines …"),
    ],
)
def test_a_traceback_is_its_exception(raised: str, folded: str) -> None:
    """Wherever it was raised, and whatever was raised before it."""
    text = FRAME.format("slack", 17) + raised
    assert fingerprint(text) == folded
    assert fingerprint(FRAME.format("teams", 3) + raised) == folded
    again = "\n\nDuring handling of the above exception, another exception occurred:\n\n"
    assert fingerprint(f"{FRAME.format('a', 1)}OSError: disk{again}{text}") == folded
    assert fingerprint(folded) == folded, "a group is asked for by its fingerprint"
    assert re.search(pattern(folded), text)


def test_a_long_traceback_is_kept_with_its_end() -> None:
    frames = "".join(
        f'  File "/srv/step_{n}.py", line {n}, in handle\n    return handle(message)\n' for n in range(90)
    )
    kept = tidy(f"{TRACEBACK}\n{frames}shop.GatewayError: no route")
    assert (len(kept or ""), kept[:600]) == (2000, f"{TRACEBACK}\n{frames}"[:600])
    assert fingerprint(kept) == "GatewayError: no route"


def test_a_traceback_without_its_end_is_told_by_its_beginning() -> None:
    text = FRAME.format("slack", 17) + "    ^^^^^"
    assert fingerprint(text).startswith("Traceback (most recent call last): File …")
    assert not re.search(pattern(fingerprint(text)), FRAME.format("slack", 17) + "ValueError: no")


@given(TEXTS)
@example("HTTP 503 HTTP 5x")
def test_the_pattern_matches_whatever_has_the_fingerprint(text: str) -> None:
    print_ = fingerprint(text)
    if print_ != NOTHING:
        assert re.search(pattern(print_), text)
        assert re.search(pattern(print_, atomic=True), text)
        if not text.startswith(TRACEBACK):
            assert re.search(pattern(print_, traceback=False), text)


@given(TEXTS, TEXTS)
def test_the_pattern_matches_nothing_else(one: str, other: str) -> None:
    if fingerprint(one) != NOTHING and re.search(pattern(fingerprint(one)), other):
        assert fingerprint(other) == fingerprint(one)


@pytest.mark.django_db
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=6))
def test_the_database_finds_the_rows_of_a_group(texts: list[str]) -> None:
    NotificationEvent.objects.all().delete()
    rows = [dead(last_error=text.replace("\x00", "")) for text in texts]
    for row in rows:
        wanted = {r.pk for r in rows if fingerprint(r.last_error) == fingerprint(row.last_error)}
        found = alike(NotificationEvent.objects.all(), fingerprint(row.last_error))
        assert {r.pk for r in found} == wanted


@pytest.mark.django_db
def test_groups_have_counts_channels_and_the_first_and_last() -> None:
    first, last = ago(days=3), ago(minutes=1)
    dead(channel="Email", last_error="HTTP 503: request 1 lost", created_at=last)
    dead(channel="email", last_error="HTTP 503: request 22 lost", created_at=first)
    dead(channel="Slack", last_error="HTTP 503: request 3 lost")
    dead(channel="Slack", last_error=None, error="from certctl")
    email, *others = grouped(NotificationEvent.objects.dead())
    assert (email.channel.casefold(), email.error, email.count) == ("email", "HTTP 503: request … lost", 2)
    assert (email.first, email.last) == (first, last)
    assert [(g.channel, g.error) for g in others] == [
        ("Slack", "HTTP 503: request … lost"),
        ("Slack", "from certctl"),
    ]


def test_no_text_keeps_pythons_engine_busy() -> None:
    """Each word could be read in many ways, all of them together in more than there is time for."""
    text = " ".join(["0" * 40] * 16)
    wanted = " ".join([FOLD] * 15 + ["other"])
    assert fingerprint(text) != wanted
    assert re.search(pattern(wanted, atomic=True), text) is None
    assert re.search(pattern(fingerprint(text), atomic=True), text)
