"""What can be down by itself, and which rows go there: in Python and in SQL, which say the same.

The two are tested against each other on both databases (tests/notifiers/test_endpoint.py). Letters are
folded as the databases do it: ASCII only.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

from django.db.models import BooleanField
from django.db.models.expressions import RawSQL

from .. import database
from ..database import carried, dump
from ..text import fold

HTTP = re.compile(r"https?:", re.IGNORECASE)
BLANKS = " \t\n\r\f\v"
ORIGIN = re.compile(r"[^/?#]*?://[^/?#]*[/?#]", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What can be down on its own: a host, a mail server, a provider's API.

    key               its name: unique, and free of secrets, so fit for a log or a metric
    channel           the channel as NOTIFICATIONS["CHANNELS"] spells it
    recipient_prefix  None: all rows of the channel go there; else those whose recipient starts with it.
                      One key can occur with several prefixes (https://Host/ and https://host/)
    exact             the prefix is the whole recipient: only rows with just this recipient go there;
                      without a prefix, the rows whose recipient is no http address of its own
    """

    key: str
    channel: str
    recipient_prefix: str | None = None
    exact: bool = False

    @property
    def serves_many(self) -> bool:
        """Whether it is a host, where every recipient has a door of its own."""
        return bool(self.recipient_prefix) and not self.exact

    def covers(self, channel: str, recipient: str) -> bool:
        """Whether the rows with this channel and recipient go there."""
        if fold(channel) != fold(self.channel):
            return False
        if not self.recipient_prefix:
            return not (self.exact and is_address(recipient))
        if self.exact:
            return recipient == self.recipient_prefix
        return recipient.startswith(self.recipient_prefix)


@lru_cache(maxsize=1024)
def is_address(recipient: str) -> bool:
    """Whether the recipient says itself where its row goes."""
    return HTTP.match(recipient.lstrip(BLANKS)) is not None


# How the rows of an endpoint are found: by an equality where there is one, so that thousands of endpoints
# cost a row one look into a hash table, and by comparing with each only where operators paused a prefix.
RECIPIENT = "notification_events.recipient"
CONDITIONS = {
    "channel": "{channel} IN (SELECT channel FROM {rows})",
    "recipient": "({channel}, {recipient}) IN (SELECT channel, recipient FROM {rows})",
    "origin": "({channel}, {origin}) IN (SELECT channel, recipient FROM {rows})",
    "no address": "({channel} IN (SELECT channel FROM {rows}) AND lower(substr({written}, 1, 5)) <> 'http:'"
    " AND lower(substr({written}, 1, 6)) <> 'https:')",
    "prefix": "EXISTS (SELECT 1 FROM {rows} WHERE o.channel = {channel}"
    " AND substr({recipient}, 1, length(o.recipient)) = o.recipient)",
}


def going_to(endpoints: Collection[Endpoint]) -> RawSQL:
    """The condition that a row of notification_events goes to one of these; never NULL."""
    by_condition: dict[str, list[dict[str, str]]] = defaultdict(list)
    for endpoint in endpoints:
        row = {"channel": fold(endpoint.channel), "recipient": endpoint.recipient_prefix or ""}
        by_condition[_condition(endpoint)].append(row)
    names = {"channel": _channel(), "recipient": RECIPIENT, "origin": _origin(), "written": _written()}
    rows = carried(("channel", "text"), ("recipient", "text"))
    found = [CONDITIONS[name].format(rows=rows, **names) for name in by_condition]
    sql = f"({' OR '.join(found)})" if found else "(1 = 0)"
    return RawSQL(sql, [dump(rows) for rows in by_condition.values()], output_field=BooleanField())  # noqa: S611


def _condition(endpoint: Endpoint) -> str:
    prefix = endpoint.recipient_prefix
    if not prefix:
        return "no address" if endpoint.exact else "channel"
    if endpoint.exact:
        return "recipient"
    whole = ORIGIN.match(prefix)
    return "origin" if whole and whole[0] == prefix else "prefix"


def _channel() -> str:
    # SQLite's lower() knows ASCII only; PostgreSQL's does where the collation is "C".
    collation = ' COLLATE "C"' if database.is_postgresql() else ""
    return f"lower(notification_events.channel{collation})"


def _written() -> str:
    character = "chr" if database.is_postgresql() else "char"
    return f"ltrim({RECIPIENT}, {' || '.join(f'{character}({ord(blank)})' for blank in BLANKS)})"


def _origin() -> str:
    """A recipient up to and with the first of / ? # behind its ://, as ORIGIN matches it; '' without one."""
    find = "strpos" if database.is_postgresql() else "instr"
    start = f"{find}({RECIPIENT}, '://')"
    rest = f"replace(replace(substr({RECIPIENT}, {start} + 3), '?', '/'), '#', '/')"
    end = f"{find}({rest}, '/')"
    early = f"{find}(replace(replace(substr({RECIPIENT}, 1, {start}), '?', '/'), '#', '/'), '/')"
    return (
        f"CASE WHEN {start} > 0 AND {end} > 0 AND {early} = 0"
        f" THEN substr({RECIPIENT}, 1, {start} + 2 + {end}) ELSE '' END"
    )
