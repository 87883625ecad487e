"""`certctl watch VERB`: what it says, what it changes, and its exit codes."""

from __future__ import annotations

import json
import os
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from notifications.certificates.models import Watch
from notifications.certificates.readings import Reading
from tests.api.support import SLACK
from tests.certificates.authority import Authority, Issued
from tests.certificates.servers import Servers
from tests.certificates.support import alerts, look, seen, watch
from tests.fixtures import Configure
from tests.management.support import Run

pytestmark = pytest.mark.django_db
CA = Authority()
DAY = timedelta(days=1)


def issued(days: float = 60, *names: str) -> Issued:
    """With so many of its ninety days left, by the machine's clock."""
    since = timezone.now().replace(microsecond=0) + timedelta(days=days, minutes=1) - 90 * DAY
    return CA.issue(*(names or ("www.example.com",)), since=since)


def watched() -> list[str]:
    return list(Watch.objects.values_list("target", flat=True))


def test_adding_says_what_was_done(run: Run) -> None:
    ran = run("add", "EXAMPLE.com", "smtp://mx.example.com", "--notify", "Slack:#pki", "--at", "30d,7d")
    assert (ran.code, ran.out) == (
        0,
        "added example.com:443\nadded smtp://mx.example.com:25\n2 added, 0 changed, 0 removed, 0 same\n",
    )
    assert ran.err == "warning: the channel Slack has no notifier\n"
    one = Watch.objects.get(target="example.com:443")
    assert (one.notify, one.at, one.interval) == (["Slack:#pki"], ["30d", "7d"], timedelta(hours=12))
    assert one.next_check_at <= timezone.now()


def test_adding_again_changes_how_it_is_watched(run: Run) -> None:
    run("add", "example.com", "--notify", "Slack:#pki")
    assert (
        run("add", "example.com", "--notify", "Slack:#pki").out == "0 added, 0 changed, 0 removed, 1 same\n"
    )
    ran = run("add", "example.com", "--every", "1h", "--on-renewal")
    assert ran.out.splitlines()[0] == "changed example.com:443: notify, interval, on_renewal"
    assert ran.err == "warning: nobody is told of what is seen: see --notify\n"
    assert Watch.objects.get().notify == []


def test_many_come_on_standard_input_a_line_each(run: Run, tmp_path: Path) -> None:
    lines = "\n".join(["# ours", "", "a.example.com", f"{tmp_path}/*.pem", " b.example.com:8443 "])
    assert run("add", "-", "--notify", "Slack:#pki", given=lines).code == 0
    assert watched() == [f"{tmp_path}/*.pem", "a.example.com:443", "b.example.com:8443"]
    ran = run("remove", "-", given="a.example.com\nb.example.com:8443\n")
    assert ran.out.splitlines()[-1] == "0 added, 0 changed, 2 removed, 0 same"
    assert watched() == [f"{tmp_path}/*.pem"]


def test_what_is_no_target_is_said_and_the_others_are_added(run: Run) -> None:
    ran = run("add", "good.example.com", "*.example.com", "a\x1bb", "--notify", "Slack:#pki", "--json")
    assert ran.code == 2
    assert "*.example.com: A wildcard is no host: name one that has the certificate." in ran.err
    assert "\x1b" not in ran.err
    assert ran.json["added"] == ["good.example.com:443"]
    assert len(ran.json["refused"]) == 2
    assert watched() == ["good.example.com:443"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--notify", "#pki"), "--notify: Write whom to tell as Channel:recipient, such as Slack:#pki."),
        (("--at", "soon"), "--at: A threshold is a share of the lifetime (33%), a time that is left"),
        (("--every", "1s"), "--every: An interval is from a minute to 30 days."),
        (("--every", "soon"), "Not a duration"),
        (("--served-by", "shop.example.com"), "--served-by: Only a watch of files says what serves them."),
        (("--host", "a\tb"), "--host: This is one line of printable characters."),
    ],
)
def test_what_is_wrong_with_an_option_is_one_line(arguments: tuple[str, ...], said: str, run: Run) -> None:
    ran = run("add", "example.com", *arguments)
    assert ran.code == 2
    assert said in ran.err
    assert watched() == []


UNWATCHED = "warning: shop.example.com:443 is not watched: nobody sees what it serves\n"
OF_TWO = (
    "warning: shop.example.com:443, imap://mx.example.com:143 are not watched: nobody sees what they serve\n"
)


@pytest.mark.usefixtures("configured")
def test_what_serves_a_file_is_named_and_may_be_watched_later(run: Run) -> None:
    named = ("--served-by", "SHOP.example.com", "--served-by", "https://shop.example.com:443")
    ran = run("add", "/etc/ssl/shop.pem", *named, "--notify", "Slack:#pki")
    assert (ran.code, ran.err) == (0, UNWATCHED)
    assert Watch.objects.get().served_by == ["shop.example.com:443"]
    for verb in (("show", "/etc/ssl/shop.pem"), ("show", "/etc/ssl/shop.pem", "--json")):
        assert run(*verb).err == UNWATCHED
    assert "\n  served by shop.example.com:443\n" in run("show", "/etc/ssl/shop.pem").out
    two = (*named, "--served-by", "imap://mx.example.com")
    ran = run("add", "/etc/ssl/shop.pem", *two, "--notify", "Slack:#pki", "--dry-run")
    assert (ran.out.splitlines()[0], ran.err) == ("changed /etc/ssl/shop.pem: served_by", OF_TWO)
    assert run("add", "shop.example.com", "--notify", "Slack:#pki").err == ""
    assert run("show", "/etc/ssl/shop.pem").err == ""
    assert run("show", "/etc/ssl/shop.pem", "--json").json["served_by"] == ["shop.example.com:443"]
    assert [one["served_by"] for one in run("list", "--json").json] == [["shop.example.com:443"], []]


@pytest.fixture
def configured(configure: Configure) -> None:
    """So that nothing else is warned of."""
    configure(CHANNELS={"Slack": SLACK})


@pytest.mark.parametrize(
    ("named", "said"),
    [
        (["*.example.com"], "--served-by: A wildcard is no host: name one that has the certificate."),
        (["shop.example.com:x"], "--served-by: A port is a number from 1 to 65535."),
        ([""], "--served-by: No target is named."),
        (["/etc/ssl/web.pem"], "--served-by: What serves a file is an endpoint such as shop.example.com:443"),
        ([f"host-{n}.example.com" for n in range(21)], "--served-by: There are at most 20 endpoints"),
    ],
)
def test_what_cannot_serve_a_file_is_one_line(named: list[str], said: str, run: Run) -> None:
    ran = run("add", "/etc/ssl/shop.pem", *(text for one in named for text in ("--served-by", one)))
    assert (ran.code, ran.err.count("\n"), watched()) == (2, 1, [])
    assert said in ran.err


@pytest.mark.parametrize("verb", ["add", "apply", "remove"])
def test_a_dry_run_changes_nothing(verb: str, run: Run, tmp_path: Path) -> None:
    watch("old.example.com")
    file = tmp_path / "watches.toml"
    file.write_text('[[watch]]\ntarget = "new.example.com"\n')
    given = {"add": "new.example.com", "apply": str(file), "remove": "old.example.com"}[verb]
    ran = run(verb, given, "--dry-run")
    assert ran.code == 0
    assert ran.out.endswith("; nothing was changed\n")
    assert ran.out.count("\n") == {"add": 2, "apply": 3, "remove": 2}[verb]
    assert run(verb, given, "--dry-run", "--json").json["dry_run"]
    assert watched() == ["old.example.com:443"]


# apply

STATE = """
[defaults]
notify = ["Slack:#pki"]
every = "6h"

[[watch]]
targets = ["www.example.com", "/etc/letsencrypt/live"]

[[watch]]
target = "db.example.com:5432"
notify = ["Email:dba@example.com"]
at = ["30d", "0"]
on_renewal = true
"""


def test_a_file_is_the_whole_state(run: Run, tmp_path: Path) -> None:
    watch("gone.example.com")
    watch("www.example.com")
    file = tmp_path / "watches.toml"
    file.write_text(STATE)
    ran = run("apply", str(file))
    assert (ran.code, ran.out.splitlines()) == (
        0,
        [
            "removed gone.example.com:443",
            "changed www.example.com:443: interval",
            "added /etc/letsencrypt/live",
            "added postgres://db.example.com:5432",
            "2 added, 1 changed, 1 removed, 0 same",
        ],
    )
    one = Watch.objects.get(target="postgres://db.example.com:5432")
    assert (one.notify, one.at, one.on_renewal) == (["Email:dba@example.com"], ["30d", "0"], True)
    assert run("apply", "-", "--json", given=STATE).json["same"] == [
        "/etc/letsencrypt/live",
        "postgres://db.example.com:5432",
        "www.example.com:443",
    ]


PAIR = """
[defaults]
notify = ["Slack:#pki"]

[[watch]]
target = "/etc/ssl/shop.pem"
served_by = ["Shop.example.com:443"]
"""


@pytest.mark.usefixtures("configured")
def test_a_file_says_what_serves_which_file(run: Run) -> None:
    watch("/etc/ssl/shop.pem")
    watch("shop.example.com")
    for tried in (["--dry-run"], []):
        ran = run("apply", "-", *tried, given=PAIR)
        assert ran.out.splitlines()[:2] == [
            "changed /etc/ssl/shop.pem: served_by",
            "removed shop.example.com:443",
        ]
        assert ran.err == UNWATCHED, "it would be watched no more"
    assert Watch.objects.get().served_by == ["shop.example.com:443"]
    both = f"{PAIR}[[watch]]\ntarget = 'shop.example.com'\n"
    for tried in (["--dry-run"], []):
        ran = run("apply", "-", *tried, given=both)
        assert (ran.err, ran.out.splitlines()[0]) == ("", "added shop.example.com:443")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the file names no target, and all would be removed"),
        ("watch = 1", "the file's parts are [defaults] and, for each, [[watch]]"),
        ("watch = [1]", "watch 1 is no table"),
        ("[[watch", "the file is no TOML: "),
        (
            "[[watches]]\ntarget = 'a.example'",
            "the file has no part 'watches'; the parts are defaults, watch",
        ),
        ("[[watch]]\nnotify = []", "watch 1 names no target"),
        ("[[watch]]\ntarget = 'a.example'\nevry = '1h'", "watch 1 has no option 'evry'; the options are"),
        ("[[watch]]\ntarget = 1", "watch 1: target is a text"),
        (
            "[[watch]]\ntarget = 'a.example'\nnotify = 'Slack:#pki'",
            "watch 1: notify is a list of Channel:recipient",
        ),
        ("[[watch]]\ntarget = 'a.example'\nat = [30]", "watch 1: at is a list of thresholds"),
        ("[[watch]]\ntarget = 'a.example'\nat = ['x']", "watch 1: at: A threshold is"),
        ("[[watch]]\ntarget = 'a.example'\nevery = 'x'", "watch 1: every: Not a duration"),
        ("[[watch]]\ntarget = '*.example'", "watch 1: target: A wildcard is no host"),
        ("[[watch]]\ntargets = ['a.example', 'A.example:443']", "watch 1: 'a.example:443' is named twice"),
        (
            "[[watch]]\ntargets = ['/etc/ssl', 'a.example']\nserved_by = ['a.example']",
            "watch 1: served_by: Only a watch of files says what serves them.",
        ),
        ("[[watch]]\ntarget = '/etc/ssl'\nserved_by = 'a'", "watch 1: served_by is a list of endpoints"),
        ("[[watch]]\ntarget = '/etc/ssl'\nserved_by = [443]", "watch 1: served_by is a list of endpoints"),
        (
            "[[watch]]\ntarget = '/etc/ssl'\nserved_by = ['*.example']",
            "watch 1: served_by: A wildcard is no host",
        ),
        (
            "[defaults]\nserved_by = ['a.example']\n[[watch]]\ntarget = '/etc/ssl'",
            "defaults has no option 'served_by'; the options are notify, at, every, host, password_file,"
            " ca_file, on_change, on_renewal",
        ),
        ("[defaults]\ntarget = 'x'\n[[watch]]\ntarget = 'a.example'", "defaults has no option 'target'"),
    ],
)
def test_a_file_with_a_fault_changes_nothing(text: str, said: str, run: Run, tmp_path: Path) -> None:
    watch("old.example.com")
    file = tmp_path / "watches.toml"
    file.write_text(text)
    ran = run("apply", str(file))
    assert ran.code == 1
    assert said in ran.err
    assert ran.err.count("\n") == 1
    assert watched() == ["old.example.com:443"]


def test_a_file_that_cannot_be_read_is_one_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"\xff\xfe")
    (tmp_path / "long").write_bytes(b"#" * (16 * 1024 * 1024 + 1))
    assert run("apply", str(tmp_path)).err == f"{tmp_path}: there is no such file\n"
    assert run("apply", "watches.tmol").err == "watches.tmol: there is no such file\n"
    assert run("apply", "a\x1b" + "x" * 500).err.count("\n") == 1
    assert run("apply", str(tmp_path / "latin")).err == f"{tmp_path}/latin: the file is not UTF-8\n"
    assert run("apply", str(tmp_path / "long")).err == f"{tmp_path}/long: the file is longer than 16 MiB\n"


# check


def test_looking_at_what_is_due_raises_and_tells(run: Run, servers: Servers, tmp_path: Path) -> None:
    port = servers.tls(issued(10).context(tmp_path))
    (tmp_path / "key.pem").write_bytes(CA.issue("x.example.com").key_pem)
    one, bad = watch(f"www.example.com@127.0.0.1:{port}"), watch(str(tmp_path / "key.pem"))
    later = watch("later.example.com")
    Watch.objects.filter(pk=later.pk).update(next_check_at=timezone.now() + DAY)
    ran = run("check")
    assert ran.code == 0
    assert ran.out.startswith("2 looked at, 1 certificate, 1 alert raised, 1 could not be read in ")
    assert ran.err == f"{bad.target}: has a private key and no certificate\n"
    [event] = alerts()
    assert event.message.startswith("www.example.com expires on ")
    one.refresh_from_db()
    assert one.next_check_at > timezone.now()
    ran = run("check", "--json")
    assert {**ran.json, "seconds": 0} == {
        "watches": 0,
        "certificates": 0,
        "problems": 0,
        "raised": 0,
        "notifications": [],
        "seconds": 0,
    }


def test_looking_at_what_is_named_or_at_all(run: Run, servers: Servers, tmp_path: Path) -> None:
    port = servers.tls(issued().context(tmp_path))
    targets = [f"host-{n}.example.com@127.0.0.1:{port}" for n in range(3)]
    run("add", *targets, "--notify", "Slack:#pki")
    assert run("check").out.startswith("3 looked at, 1 certificate")
    assert run("check", targets[0]).out.startswith("1 looked at")
    assert run("check", "--all", "--concurrency", "2", "--timeout", "5s").out.startswith("3 looked at")
    ran = run("check", targets[1], "other.example.com")
    assert (ran.code, ran.err) == (1, "other.example.com:443 is not watched\n")
    assert ran.out.startswith("1 looked at")
    assert run("check", "--timeout", "1h").code == 2


def test_a_problem_is_exit_code_2_where_one_asks(run: Run, tmp_path: Path) -> None:
    watch(str(tmp_path / "none.pem"))
    assert run("check", "--all").code == 0
    ran = run("check", "--all", "--fail-on-problem")
    assert (ran.code, ran.err.splitlines()[-1]) == (2, "1 could not be read")


# list, show


def test_the_list_has_what_ends_first_in_front(run: Run) -> None:
    now = timezone.now()
    for name, days in (("late.example.com", 80), ("soon.example.com", 3), ("over.example.com", -2)):
        one = watch(name)
        look(now, (one, seen(now, issued(days, name), place=one.target)))
    watch("new.example.com", notify=[])
    down = watch("down.example.com")
    look(now, (down, Reading(problem="no connection: connection refused")))
    lines = run("list").out.splitlines()
    assert [line.split()[0] for line in lines] == [
        "TARGET",
        "over.example.com:443",
        "soon.example.com:443",
        "late.example.com:443",
        "down.example.com:443",
        "new.example.com:443",
    ]
    assert "over.example.com  expired 1 day 23 h ago  has expired" in lines[1]
    assert "soon.example.com  3 days                  fine" in lines[2]
    assert "no connection: connection refused" in lines[4]
    assert "not looked at yet" in lines[5]
    assert run("list", "--limit", "1").out.splitlines()[-1] == "The first 1; there are more (--limit)."
    first = run("list", "--json").json[0]
    assert (first["target"], first["state"]) == ("over.example.com:443", "has expired")
    assert first["certificates"][0]["names"] == ["over.example.com"]
    assert first["at"] == ["33%", "15%", "5%", "0"]


def test_nothing_is_watched(run: Run) -> None:
    assert run("list").out == "nothing is watched\n"
    assert run("list", "--json").json == []
    assert run("show", "example.com").err == "example.com:443 is not watched\n"
    assert run("show", "*.example.com").code == 1


def test_showing_one_tells_what_was_seen_and_what_became_of_it(run: Run) -> None:
    now, one = timezone.now(), watch()
    old, new = issued(10), issued(70)
    look(now - DAY, (one, seen(now - DAY, old)))
    look(now, (one, seen(now, new)))
    said = run("show", "www.example.com").out
    assert f"serial {new.certificate.serial_number:x}" in said
    assert "www.example.com: 10 days, gone since " in said
    [event] = alerts()
    assert f"  15 % left, to #pki on Slack: withdrawn ({event.pk})" in said
    assert said.count("#pki on Slack") == 1  # the thresholds that it covers are none of their own
    told = run("show", "www.example.com", "--json").json
    assert [row["fingerprint"] for row in told["certificates"]] == [new.fingerprint]
    assert [row["fingerprint"] for row in told["former"]] == [old.fingerprint]
    assert told["raised"][0]["notification"] == event.pk
    event.delete()
    assert run("show", "www.example.com", "--json").json["raised"][0]["status"] == "pruned"


def test_json_is_one_line_of_plain_ascii(run: Run) -> None:
    watch("bücher.example")
    out = run("list", "--json").out
    assert out.isascii()
    assert len(out.splitlines()) == 1
    assert json.loads(out)[0]["target"] == "xn--bcher-kva.example:443"


def test_removing_what_is_not_watched_is_exit_code_1(run: Run) -> None:
    watch("old.example.com")
    ran = run("remove", "old.example.com", "other.example.com")
    assert (ran.code, ran.err) == (1, "other.example.com:443 is not watched\n")
    assert watched() == []
    assert run("remove", "-").code == 2


@pytest.mark.django_db
def test_a_number_beyond_all_rows_is_all_of_them(run: Run) -> None:
    assert run("add", "example.com", "--notify", "Slack:#pki").code == 0
    ran = run("list", "--limit", "9" * 30)
    assert (ran.code, "example.com:443" in ran.out) == (0, True)


@pytest.mark.django_db
def test_a_file_may_begin_with_its_byte_order_mark_or_be_a_pipe(run: Run, tmp_path: Path) -> None:
    state = '\ufeff[[watch]]\ntarget = "example.com"\n'
    (tmp_path / "w.toml").write_text(state)
    assert run("apply", str(tmp_path / "w.toml")).code == 0
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=[state], daemon=True)
    writer.start()
    assert "1 same" in run("apply", str(tmp_path / "pipe")).out
    writer.join()
