"""Many rows in one statement: they travel as one JSON text, as one parameter costs a fraction of eight for
every row."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson
from django.db import connections


def carried(*columns: tuple[str, str], using: str) -> str:
    """SQL for the rows that a JSON text, the statement's next parameter, carries: a table named o.

    columns  with the types that they have in PostgreSQL's eyes; what a row leaves out is NULL
    """
    if connections[using].vendor == "postgresql":
        return f"json_to_recordset(%s) AS o({', '.join(f'{name} {kind}' for name, kind in columns)})"
    values = ", ".join(f"json_extract(value, '$.{name}') AS {name}" for name, _ in columns)
    return f"(SELECT {values} FROM json_each(%s)) AS o"  # noqa: S608  (constants and a placeholder only)


def dump(rows: Iterable[dict[str, Any]]) -> str:
    return orjson.dumps(list(rows)).decode()
