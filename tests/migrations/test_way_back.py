"""Migrating back beside certctl, which runs each of its migrations once: what it defines stays."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from . import catalog
from .catalog import Column
from .certctl_tables import INSERT_WITH_TIME, MIGRATIONS
from .test_adoption import CONTRACT_COLUMNS, CONTRACT_INDEXES, is_the_contracts, migrate

OURS, NOW = "ours", datetime.now(UTC)
ORDERS = {
    "certctl before ours": ["000001", "000016", "000017", OURS],
    "ours before certctl": [OURS, "000001", "000016", "000017"],
    "certctl upgraded in between": ["000001", OURS, "000016", "000017"],
    "certctl upgraded before and after": ["000001", "000016", OURS, "000017"],
    "certctl not upgraded yet": ["000001", OURS],
    "certctl has only begun": [OURS, "000001"],
}
COLUMNS = {n: c for n, c in CONTRACT_COLUMNS.items() if n not in ("leased_until", "dedup_key")}
INDEXES = {n: d for n, d in CONTRACT_INDEXES.items() if not n.startswith("uniq_")}
FAILED = """
    INSERT INTO notification_events (id, type, channel, recipient, message, status, retry_count, last_error)
    VALUES ('n-1', 'Revocation', 'Slack', '#pki', 'revoked', 'dead', 4, 'HTTP 503')
"""


def run(step: str) -> None:
    if step == OURS:
        migrate()
    else:
        catalog.execute(MIGRATIONS[step])


def is_certctls() -> None:
    assert catalog.columns() == COLUMNS
    assert catalog.indexes() == INDEXES
    assert catalog.triggers() == set()
    assert catalog.functions() == set()
    assert catalog.tables() == {"django_migrations", "managed_certificates", "notification_events"}


@pytest.fixture(params=ORDERS)
def order(request: pytest.FixtureRequest, empty_database: object) -> list[str]:
    """The steps that have been taken, in their order."""
    steps: list[str] = ORDERS[request.param]
    for step in steps:
        run(step)
    return steps


def test_it_keeps_what_certctl_defines(order: list[str]) -> None:
    catalog.execute(FAILED)
    migrate("zero")
    for missing in MIGRATIONS.keys() - order:
        run(missing)
    is_certctls()
    values = ("n-2", "Revocation", None, "Slack", "#pki", "revoked", None, "pending", None, NOW)
    assert catalog.query(INSERT_WITH_TIME, *values) == [("n-2",)]
    row = catalog.rows()["n-1"]
    assert (row["status"], row["retry_count"], row["last_error"]) == ("dead", 4, "HTTP 503")


def test_there_and_back_twice(order: list[str]) -> None:
    migrate("zero")
    migrate()
    is_the_contracts()
    migrate("0002")
    migrate("0001")
    migrate()
    is_the_contracts()
    migrate("zero")
    for missing in MIGRATIONS.keys() - order:
        run(missing)
    is_certctls()


def test_what_was_left_to_certctl_is_certctls(empty_database: object) -> None:
    """Also when certctl's other tables are gone one day."""
    for step in (OURS, "000001"):
        run(step)
    migrate("zero")
    migrate()
    catalog.execute("DROP TABLE managed_certificates")
    migrate("zero")
    assert catalog.columns() == COLUMNS


def test_it_keeps_what_a_hand_had_begun(empty_database: object) -> None:
    run("000001")
    catalog.execute(
        "ALTER TABLE notification_events ADD COLUMN retry_count INTEGER, ADD COLUMN dedup_key TEXT"
    )
    migrate()
    migrate("zero")
    assert catalog.columns() == COLUMNS | {"dedup_key": Column("text", False)}
