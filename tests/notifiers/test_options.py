"""What notifiers declare of their options, and what comes of it: findings, secrets, page, environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from environs import ValidationError

from certctl import environment
from notifications.exceptions import PermanentError
from notifications.notifiers.base import Notifier
from notifications.notifiers.loading import load, preview_of
from notifications.notifiers.options import (
    FLAG,
    FOLDER,
    NETWORKS,
    PORT,
    SEVERITY_MAP,
    TEXT,
    URL,
    Kind,
    Option,
    choice,
    completed,
    faults,
    is_set,
    is_within,
    list_of,
    secrets_in,
)
from notifications.notifiers.shipped import SHIPPED
from notifications.text import redact
from tests.notifiers.support import a_message, attempt
from tests.notifiers.table import CONFIG, Verdict

PAGE = Path(__file__).resolve().parents[2] / "docs" / "channels.md"
every_notifier = pytest.mark.parametrize("kind", SHIPPED, ids=lambda kind: kind.title())


def row(kind: type[Notifier], option: Option) -> str:
    """An option's line in the page's table."""
    marks = [mark for mark, is_so in (("required", option.required), ("secret", option.secret)) if is_so]
    what = option.help + (f"; {option.kind.words}" if option.kind.words.startswith("one of") else "")
    what += f". Default `{option.default}`" if option.default not in (None, "", ()) else ""
    name = (
        f"`{option.name}`" if option in (kind.declared_options or ()) else f"{option.name.lower()} (Django)"
    )
    variable = f"`{option.env}`" if option.env else ""
    return f"| {kind.title()} | {name} | {', '.join(marks)} | {variable} | {what} |"


def test_the_page_says_what_is_declared() -> None:
    lines = PAGE.read_text().splitlines()
    start = lines.index("| channel | option | | environment | what it is |")
    table = lines[start + 2 : lines.index("", start)]
    assert table == [
        row(kind, option)
        for kind in SHIPPED
        for option in (*(kind.declared_options or ()), *kind.django_options)
    ]


@every_notifier
def test_every_declaration_is_whole(kind: type[Notifier]) -> None:
    declared = [*(kind.declared_options or ()), *kind.django_options]
    names = [option.name for option in declared]
    assert len(set(names)) == len(names)
    for option in declared:
        assert option.help
        assert not option.help.endswith(".")
        assert option.default is None or option.default in ("", ()) or option.kind.accepts(option.default)
        assert option.counterpart in ("", *names)
        assert not option.env or option.env.startswith("CERTCTL_")
    variables = [option.env for option in declared if option.env]
    assert len({"_".join(name.split("_")[:2]) for name in variables}) <= 1  # a misspelt one is told by it


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (TEXT, ["", "#pki"], [1, None, b"x"]),
        (
            URL,
            ["https://h.example", "http://h:8080/a?b", "HTTPS://h/\n"],
            ["", "h.example", "https://", "ftp://h/", "https://h:0/", "https://h:x/", "https://h/a b", 1],
        ),
        (
            NETWORKS,
            [[], ["10.0.0.0/8", "fd00::/8"], ("1.2.3.4",)],
            ["10.0.0.0/8", ["10.0.0.1/8"], [""], None],
        ),
        (PORT, [1, 65535], [0, 65536, "25", True, 2.5]),
        (FLAG, [True, False], [1, "true", None]),
        (choice("a", "b"), ["a", "b"], ["", "c", None, 1, ["a"]]),
        (list_of(TEXT), [[], ["a"]], ["a", [1]]),
        (
            SEVERITY_MAP,
            ["error", {}, {"RenewalFailure": "critical", "x_y": "info"}],
            ["urgent", "", None, 1, ["error"], {"RenewalFailure": "P1"}],
        ),
        (FOLDER, ["ops", "a_b-1"], ["", "../x", "A", 1, None]),
    ],
)
def test_what_a_kind_accepts(kind: Kind, good: list[Any], bad: list[Any]) -> None:
    option = Option("X", "", kind)
    assert [value for value in good if option.fault(value)] == []
    assert [value for value in bad if not option.fault(value)] == []


def test_all_that_is_wrong_is_said_at_once_and_no_secret_with_it() -> None:
    declared = [
        Option("PLACE", "", URL, required=True),
        Option("LEVEL", "", choice("low", "high")),
        Option("PIN", "", choice("1", "2"), secret=True),
        Option("TAG", "", TEXT),
    ]
    given = {"PLACE": " ", "LEVEL": "hihg", "PIN": "hunter2"}
    assert list(faults(declared, given)) == [
        "PLACE is missing",
        "LEVEL must be one of low, high, not 'hihg'",
        "PIN must be one of 1, 2",
    ]


@pytest.mark.parametrize(
    ("value", "given"), [(None, False), ("", False), (" \n", False), ([], False), ((), False)]
)
def test_what_counts_as_not_set(value: Any, given: bool) -> None:
    assert is_set(value) == given


@pytest.mark.parametrize("value", ["x", 0, False, ["x"]])
def test_what_counts_as_set(value: Any) -> None:
    assert is_set(value)


def test_a_default_stands_for_what_is_not_set() -> None:
    declared = [Option("A", "", TEXT, default="a"), Option("B", "", TEXT, default="b"), Option("C", "", TEXT)]
    assert completed(declared, {"A": "", "B": "own", "D": 1}) == {"A": "a", "B": "own", "D": 1}


def test_secrets_are_what_is_declared_secret_and_by_name_what_nobody_declared() -> None:
    declared = [Option("PHRASE", "", TEXT, secret=True), Option("KEY_NAME", "", TEXT), Option("URL", "", URL)]
    given = {"PHRASE": "open-sesame", "KEY_NAME": "ordinary", "API_TOKEN": "undeclared", "ROOM": "kitchen"}
    said = redact("open-sesame ordinary undeclared kitchen", secrets_in(declared, given))
    assert said == "[redacted] ordinary [redacted] kitchen"


def test_a_secret_with_quotes_stays_hidden_within_json() -> None:
    declared = [Option("PHRASE", "", TEXT, secret=True)]
    assert redact(r'{"p": "a\"b\\c"}', secrets_in(declared, {"PHRASE": 'a"b\\c'})) == '{"p": "[redacted]"}'


@pytest.mark.parametrize(
    ("url", "within"),
    [
        ("https://opsgenie.com", True),
        ("https://api.eu.opsgenie.com./v2", True),
        ("https://notopsgenie.com", False),
        ("https://opsgenie.com.example", False),
        ("https://[", False),
        ("", False),
        (None, False),
    ],
)
def test_the_domain_of_a_url(url: object, within: bool) -> None:
    assert is_within(url, "opsgenie.com") == within


# The environment


class Reading(environment.Environment):
    """An environment of the test's making."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
        super().__init__()
        for name, value in variables.items():
            monkeypatch.setenv(name, value)


class Fax(Notifier):
    """A channel that no file of the project knows."""

    declared_options = (
        Option("NUMBER", "", TEXT, required=True, env="CERTCTL_FAX_NUMBER"),
        Option("PAPER", "", choice("A4", "letter"), default="A4", env="CERTCTL_FAX_PAPER"),
        Option("COPIES", "", Kind("a number", lambda value: value > 0, int), env="CERTCTL_FAX_COPIES"),
        Option("LINES", "", list_of(TEXT), env="CERTCTL_FAX_LINES"),
        Option("ASIDE", "", TEXT),
    )
    django_options = (Option("MODEM", "", TEXT, required=True, env="CERTCTL_FAX_MODEM"),)


def test_a_channel_is_on_when_all_is_set_that_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"CERTCTL_FAX_NUMBER": "112\n", "CERTCTL_FAX_COPIES": "2", "CERTCTL_FAX_LINES": "a, ,b"}
    assert Reading(monkeypatch, **given).channels([Fax]) == {}
    assert Reading(monkeypatch, CERTCTL_FAX_MODEM="/dev/m").channels([Fax]) == {
        "Fax": {"NOTIFIER": f"{__name__}.Fax", "NUMBER": "112\n", "COPIES": 2, "LINES": ["a", "b"]}
    }


def test_a_channel_without_variables_is_the_site_s_to_add(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Reading(monkeypatch).channels([Notifier]) == {}


def test_what_is_wrong_in_the_environment_is_said_without_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = {"CERTCTL_FAX_PAPER": "hunter2", "CERTCTL_FAX_COPIES": "hunter2"}
    assert Reading(monkeypatch, **bad).channels([Fax]) == {}  # nobody asked for faxes
    reading = Reading(monkeypatch, CERTCTL_FAX_NUMBER="112", CERTCTL_FAX_MODEM="/dev/m")
    said = "CERTCTL_FAX_PAPER: Must be one of A4, letter; CERTCTL_FAX_COPIES: Must be a number"
    refused = "notifications.notifiers.refused.RefusedNotifier"
    assert reading.channels([Fax]) == {"Fax": {"NOTIFIER": refused, "FAULT": said}}
    assert reading.options(Fax.declared_options) == {"NUMBER": "112"}
    reading.close()


def test_a_refused_channel_says_why_of_each_of_its_rows() -> None:
    refused = "notifications.notifiers.refused.RefusedNotifier"
    made = load("Fax", {"NOTIFIER": refused, "FAULT": "no paper"}, 5)
    error = attempt(made)
    assert Verdict.of(error) == CONFIG
    assert str(error).startswith("no paper")
    with pytest.raises(PermanentError, match="no paper"):
        preview_of(made, a_message())


def test_half_of_a_channel_is_told_by_its_declarations() -> None:
    assert environment.half_configured({"CERTCTL_FAX_NUMER": "1"}, [Fax]) == [
        "the channel Fax is off: CERTCTL_FAX_NUMBER is not set, but CERTCTL_FAX_NUMER"
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("error", "error"),
        (" RenewalFailure = critical, x=info ,", {"RenewalFailure": "critical", "x": "info"}),
        ("RenewalFailure=P1", "refused"),
        ("urgent", "refused"),
    ],
)
def test_severities_are_read_from_the_environment(text: str, value: Any) -> None:
    declared = Option("SEVERITY", "", SEVERITY_MAP, env="CERTCTL_X_SEVERITY")
    if value != "refused":
        assert environment.read(text, declared) == value
        return
    with pytest.raises(ValidationError):
        environment.read(text, declared)
