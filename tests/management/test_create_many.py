"""`create --from`: many alerts of a file or of standard input, all or none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from notifications.models import NotificationEvent
from tests import factories
from tests.fixtures import Configure
from tests.management.support import Run
from tests.scripted import Script

pytestmark = pytest.mark.django_db
EVENTS = NotificationEvent.objects


def lines(*alerts: Any) -> str:
    return "".join(f"{json.dumps(one)}\n" for one in alerts)


def alert(**changed: Any) -> dict[str, Any]:
    return {"type": "Revocation", "channel": "Webhook", "recipient": "ops", "message": "revoked"} | changed


def test_standard_input_and_a_file(run: Run, script: Script, tmp_path: Path) -> None:
    old = factories.pending(dedup_key="old")
    given = lines(alert(dedup_key="old"), alert(certificate_id=None, message="é"))
    ran = run("create", "--from", "-", given=given)
    assert (ran.code, ran.out.strip(), ran.err) == (0, "1 raised, 1 had been raised before", "")
    path = tmp_path / "alerts"
    path.write_text(lines(alert(dedup_key="old"), alert(message="2")), encoding="utf-8")
    found = run("create", "--from", str(path), "--json").json
    assert found[0] == {"id": old.pk, "created": False}
    assert EVENTS.get(pk=found[1]["id"]).message == "2"
    assert sorted(EVENTS.exclude(pk=old.pk).values_list("message", flat=True)) == ["2", "é"]
    assert run("create", "--from", "-").out.strip() == "0 raised, 0 had been raised before"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "line 2 is empty"),
        ("{", "line 2 is no JSON"),
        ("[" * 100_000, "line 2 is no JSON"),
        ("[]", "line 2 is no JSON object"),
        (json.dumps(alert(status="sent")), "line 2 has 'status', which is none of type, channel"),
        ('{"type": "T", "channel": "C"}', "line 2 has no recipient, message"),
        (json.dumps(alert(message=5)), "line 2 has a message that is no string"),
        (json.dumps(alert(message=None)), "line 2 has a message that is no string"),
        (json.dumps(alert(recipient="")), "line 2: recipient: This field cannot be blank."),
        (json.dumps(alert(dedup_key="digest:1")), "line 2: dedup_key: Keys that begin with"),
        (json.dumps(alert(type="\ud800")), "line 2: type: This text is not valid Unicode."),
    ],
)
def test_a_fault_names_its_line_and_nothing_is_raised(run: Run, line: str, said: str) -> None:
    ran = run("create", "--from", "-", given=f"{lines(alert())}{line}\n{lines(alert())}")
    assert ran.code == 2
    assert said in ran.err
    assert len(ran.err.strip().splitlines()) == 1
    assert not EVENTS.exists()


def test_what_cannot_be_read(run: Run, tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b'{"type": "\xe9"}')
    for name in ("missing", "latin", "."):
        ran = run("create", "--from", str(tmp_path / name))
        assert ran.code == 1
        assert "cannot be read" in ran.err


def test_one_and_many_do_not_mix_and_one_is_whole(run: Run) -> None:
    ran = run("create", "--from", "-", "--channel", "Webhook", "--dedup-key", "k")
    assert (ran.code, "--from goes without --channel, --dedup-key" in ran.err) == (2, True)
    ran = run("create", "--channel", "Webhook", "--message", "m")
    assert (ran.code, "required: --type, --recipient" in ran.err) == (2, True)


def test_doubts_are_said_and_strict_refuses(run: Run, script: Script, configure: Configure) -> None:
    given = lines(alert(), alert(channel="Pager"), alert(channel="Pager"))
    ran = run("create", "--from", "-", "--strict", given=given)
    assert (ran.code, "nothing was raised" in ran.err, EVENTS.count()) == (1, True, 0)
    ran = run("create", "--from", "-", given=given)
    assert (ran.code, EVENTS.count()) == (0, 3)
    assert ran.err.strip() == "warning: the channel Pager has no notifier"
