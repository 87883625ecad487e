"""Which role must do what PostgreSQL refused to this one."""

from __future__ import annotations

from django.db import Error, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

TABLE = "notification_events"
REFUSED = ("42501",)  # insufficient privilege
# The owner of the table; who may create something beside it is for the owner of the database to say.
OWNER = """
    SELECT current_user, pg_get_userbyid(owner), place
      FROM (VALUES (1, %s, (SELECT relowner FROM pg_class WHERE oid = to_regclass(%s))),
                   (2, 'the database', (SELECT datdba FROM pg_database WHERE datname = current_database()))
           ) AS owners (rank, place, owner)
     WHERE owner IS NOT NULL AND NOT pg_has_role(owner, 'USAGE')
     ORDER BY rank LIMIT 1
"""


def sqlstate(error: BaseException | None) -> str:
    """PostgreSQL's code for what went wrong; "" for an error that has none."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if state := getattr(error, "sqlstate", None):
            return str(state)
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return ""


def who_must(connection: BaseDatabaseWrapper, table: str | None = None) -> str:
    """One sentence about the roles, for a statement about `table` that was refused."""
    try:
        with transaction.atomic(connection.alias), connection.cursor() as cursor:
            cursor.execute(OWNER, [table or TABLE, table or TABLE])
            found = cursor.fetchone()
    except Error:
        found = None
    if not found:
        return "this role may not do it (docs/adopting.md has the grants)"
    role, owner, place = found
    must = f"the role {owner}, to which {place} belongs, must do or grant it"
    return f"the role {role} may not do it; {must} (docs/adopting.md)"
