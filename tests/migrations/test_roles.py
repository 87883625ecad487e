"""The role that runs is not the role that owns: who must migrate, and the grants of docs/adopting.md."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.processes import ROOT, current_database_url

from . import catalog
from .certctl_tables import STATES
from .test_adoption import is_the_contracts

Run = Callable[..., subprocess.CompletedProcess[str]]
OWNER, RUNNER = f"certctl_{os.getpid()}", f"notifier_{os.getpid()}"
PAGE = (ROOT / "docs" / "adopting.md").read_text()


def documented(start: str) -> str:
    """The SQL on the page that starts so, with the roles of this test."""
    [block] = [sql for sql in re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL) if sql.startswith(start)]
    return re.sub(r"\bcertctl\b", OWNER, re.sub(r"\bnotifier\b", RUNNER, block))


@pytest.fixture
def roles(empty_database: object) -> Iterator[None]:
    """certctl's role owns its table, in a schema where not everybody may create; and there is ours."""
    catalog.execute(f"CREATE ROLE {OWNER} LOGIN; CREATE ROLE {RUNNER} LOGIN")
    catalog.execute(
        f"GRANT USAGE, CREATE ON SCHEMA public TO {OWNER}; GRANT USAGE ON SCHEMA public TO {RUNNER}"
    )
    catalog.execute(f"SET ROLE {OWNER}")
    catalog.execute(STATES["000016"])
    catalog.execute("RESET ROLE")
    yield
    for role in (RUNNER, OWNER):
        catalog.execute(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")


@pytest.fixture
def as_role(roles: None, certctl_command: list[str], tmp_path: Path) -> Run:
    """Run a command of certctl's as a role."""

    def run(role: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        url = re.sub(r"//[^@]*@", f"//{role}@", current_database_url())
        environment = os.environ | {"DJANGO_SETTINGS_MODULE": "certctl.settings", "DATABASE_URL": url}
        command = [*certctl_command, *arguments]
        return subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
        )

    return run


def says_who(result: subprocess.CompletedProcess[str]) -> bool:
    """In its last line; before it there may be what the checks say."""
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    must = f"the role {OWNER}, to which notification_events belongs, must do or grant it"
    return f"the role {RUNNER} may not do it; {must}" in result.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "grant",
    [
        "",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON notification_events TO {role}",
        "GRANT CREATE ON SCHEMA public TO {role}",
        "GRANT CREATE ON SCHEMA public TO {role}; GRANT ALL ON notification_events TO {role}",
    ],
)
def test_a_role_without_the_right_is_told_who_must_migrate(grant: str, as_role: Run) -> None:
    catalog.execute(grant.format(role=RUNNER))
    before = catalog.columns()
    assert says_who(as_role(RUNNER, "migrate"))
    assert catalog.columns() == before


def test_the_documented_grants_are_enough(as_role: Run) -> None:
    migrated = as_role(OWNER, "migrate", "--verbosity", "0")
    assert migrated.returncode == 0, migrated.stderr
    is_the_contracts()
    assert says_who(as_role(RUNNER, "notifications", "list"))
    assert says_who(as_role(RUNNER, "migrate"))
    catalog.execute(documented("GRANT USAGE ON"))
    create = ("--type", "Revocation", "--channel", "Nowhere", "--recipient", "x", "--message", "m")
    for command in (
        ("migrate",),
        ("notifications", "create", *create),
        ("send_notifications",),
        ("retry_notifications", "--include-unscheduled"),
        ("notifications", "prune", "--older-than", "1h"),
    ):
        done = as_role(RUNNER, *command)
        assert done.returncode == 0, done.stderr
    deleted = "DELETE FROM managed_certificates WHERE id = 'mc-1'"
    catalog.execute(f"SET ROLE {OWNER}; {deleted}; RESET ROLE")


def test_a_member_of_the_owning_role_migrates(as_role: Run) -> None:
    catalog.execute(documented("GRANT certctl TO"))
    migrated = as_role(RUNNER, "migrate", "--verbosity", "0")
    assert migrated.returncode == 0, migrated.stderr
    is_the_contracts()
