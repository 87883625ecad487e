"""How settings.py reads the environment: parsers that name what is wrong and never repeat a value.

Of the channels it knows nothing but what their notifiers declare.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote_plus

import dj_database_url
from django.core.exceptions import ImproperlyConfigured
from environs import Env, EnvValidationError, ValidationError

from notifications import durations
from notifications.notifiers.base import Notifier
from notifications.notifiers.options import PROXY, URL, Option
from notifications.notifiers.refused import RefusedNotifier

LONGEST = timedelta(days=366)
PASSWORD_PLACE = "$(POSTGRES_PASSWORD)"  # noqa: S105 (a place for one)
IN_FILE = "_FILE"
LONGEST_FILE = 1024 * 1024

Database = dict[str, Any]


class Unreadable(NamedTuple):
    """What stands for an option's value where there is none to be had."""

    why: str


class Environment(Env):
    """environs with this project's parsers; a variable that is set to nothing counts as not set.

    Each is also read from the file that NAME_FILE names, as container platforms hand secrets over.
    """

    def __init__(self) -> None:
        super().__init__(eager=False)
        self._unread: dict[str, str] = {}
        self._of_channels: set[str] = set()
        self.add_parser("secret_key", secret_key)
        self.add_parser("duration", duration)
        self.add_parser("database", database)
        self.add_parser("http_url", http_url)
        self.add_parser("proxy", proxy)
        self.add_parser("words", words)
        self.add_parser("folder", folder)
        self.add_parser("texts", texts)
        self.add_parser("option", option)

    def _get_value(self, env_key: str, default: Any) -> Any:
        value = super()._get_value(env_key, "")
        file = os.environ.get(f"{env_key}{IN_FILE}", "").strip()
        if file and value.strip():
            self._unread[env_key] = f"set twice, by {env_key}{IN_FILE} too; leave one of them out"
        elif file:
            try:
                value = content(file)
            except ValueError as error:
                self._unread[env_key] = f"the file that {env_key}{IN_FILE} names {error}"
        return value if value.strip() else default

    @property
    def names(self) -> set[str]:
        """The variables that have been asked for, set or not."""
        return set(self._fields)

    def options(self, declared: Iterable[Option]) -> dict[str, Any]:
        """The values of those whose variable is set, and right."""
        return {one.name: value for one, value in self._read(declared) if not isinstance(value, Unreadable)}

    def faults(self, declared: Iterable[Option]) -> dict[str, str]:
        """What is wrong with the others, by the option's name; it names the variable and not its value."""
        read = self._read(declared)
        return {one.name: f"{one.env}: {found.why}" for one, found in read if isinstance(found, Unreadable)}

    def _read(self, declared: Iterable[Option]) -> Iterator[tuple[Option, Any]]:
        for one in declared:
            value = self.option(one.env, "", declared=one) if one.env else None
            if one.env in self._unread:
                self._of_channels.add(one.env)
                value = Unreadable(self._unread[one.env])
            if value is not None:
                yield one, value

    def proxies(self) -> dict[str, str]:
        """HTTP_PROXY, HTTPS_PROXY and NO_PROXY, in small letters or large, as an option PROXY takes them."""
        found = {
            scheme: self.proxy(f"{scheme}_proxy", "") or self.proxy(f"{scheme}_proxy".upper(), "")
            for scheme in ("http", "https")
        }
        found = {scheme: url for scheme, url in found.items() if url}
        spared = self.str("no_proxy", "") or self.str("NO_PROXY", "")
        return {**found, "no": spared} if found and spared else found

    def channels(
        self, notifiers: Iterable[type[Notifier]], proxies: Mapping[str, str] | None = None
    ) -> dict[str, dict[str, Any]]:
        """The entries of NOTIFICATIONS["CHANNELS"]: of the channels that have all that they need.

        A channel with a fault is there too, and refuses its own rows: the others go on.

        proxies  the way out of those that name none themselves
        """
        found = {}
        for notifier in notifiers:
            known, own = variables(notifier), self.options(notifier.declared_options or ())
            faults = self.faults(known)
            if not known or missing(notifier, {*self.options(known), *faults}):
                continue
            if proxies and any(one.name == "PROXY" for one in known):
                own = {"PROXY": proxies, **own}
            entry = {"NOTIFIER": dotted_path(notifier), **own}
            if faults:
                entry = {"NOTIFIER": dotted_path(RefusedNotifier), "FAULT": "; ".join(faults.values())}
            found[notifier.title()] = entry
        return found

    def close(self) -> None:
        """End reading. Raises ImproperlyConfigured with every fault in one line."""
        found: dict[str, str] = {}
        try:
            self.seal()
        except EnvValidationError as error:
            faults = error.error_messages
            pairs = faults.items() if isinstance(faults, dict) else [("environment", faults)]
            found = {name: " ".join(dict.fromkeys(map(str, said))).rstrip(".") for name, said in pairs}
        found |= {name: why for name, why in self._unread.items() if name not in self._of_channels}
        if found:
            raise ImproperlyConfigured("; ".join(f"{name}: {said}" for name, said in found.items()))


def content(path: str) -> str:
    """A file's text without the end of its last line. Raises ValueError, without the path, which may be the
    secret itself."""
    try:
        with Path(path).open("rb") as file:
            text = file.read(LONGEST_FILE + 1)
        if len(text) > LONGEST_FILE:
            raise ValueError("is too large")
        return text.decode().rstrip("\r\n")
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError("is no text in UTF-8") from None


def variables(notifier: type[Notifier]) -> list[Option]:
    """All that the project can set for a channel."""
    return [one for one in (*(notifier.declared_options or ()), *notifier.django_options) if one.env]


def missing(notifier: type[Notifier], given: Collection[str]) -> list[str]:
    """The variables of the options without which the channel is off."""
    return [one.env for one in variables(notifier) if one.required and one.name not in given]


def dotted_path(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def half_configured(environment: Mapping[str, str], notifiers: Iterable[type[Notifier]]) -> list[str]:
    """The channels of which somebody set up a part that does nothing by itself, a sentence each."""
    given = {name: name.removesuffix(IN_FILE) for name, value in sorted(environment.items()) if value.strip()}
    return [sentence for notifier in notifiers for sentence in _half(notifier, given)]


def _half(notifier: type[Notifier], given: Mapping[str, str]) -> Iterator[str]:
    """given: the variable that each one's value is for."""
    known = {one.name: one for one in variables(notifier)}
    set_up = {name: one.env for name, one in known.items() if one.env in given.values()}
    prefixes = tuple({"_".join(one.env.split("_")[:2]) + "_" for one in known.values()})
    mine = [name for name in given if name.startswith(prefixes)]  # misspelt ones, too
    if mine and (needed := missing(notifier, set_up)):
        yield f"the channel {notifier.title()} is off: {needed[0]} is not set, but {', '.join(mine)}"
    for name in set_up:
        other = known[name].counterpart
        if other and other not in set_up:
            yield f"{known[name].env} has no effect: {known[other].env} is not set, its counterpart"


def option(text: str, declared: Option) -> Any:
    """An option's value, or why it has none; None where it is not set."""
    try:
        return read(text, declared) if text else None
    except ValidationError as error:
        return Unreadable(str(error).rstrip("."))


def read(text: str, declared: Option) -> Any:
    """Raises ValidationError for what is no value of such an option."""
    try:
        value = declared.kind.read(text)
        accepted = declared.kind.accepts(value)
    except ValueError:
        accepted = False
    if not accepted:
        raise ValidationError(f"Must be {declared.kind.words}.")
    return value


def secret_key(text: str) -> str:
    """A key to sign sessions with; there is no default outside debugging."""
    if not text:
        raise ValidationError(
            "Not set: give it 50 or more random characters, such as "
            "`python -c 'import secrets; print(secrets.token_urlsafe(50))'` prints."
        )
    return text


def duration(text: str) -> timedelta:
    """`90s`, `2m`, `1h`, and what certctl's own language writes: `1m30s`, `1.5h`."""
    try:
        length = durations.parse(text)
    except ValueError as error:
        raise ValidationError(str(error)) from None
    if length > LONGEST:
        raise ValidationError("A duration must be at most a year.")
    return length


def http_url(text: str) -> str:
    """An absolute http or https URL; "" stays "", for "not set"."""
    return read(text, Option("URL", "", URL)) if text else ""


def proxy(text: str) -> str:
    """A proxy's http URL, also without its scheme, as many write it; "" stays "", for "not set"."""
    return read(text if "://" in text else f"http://{text}", Option("PROXY", "", PROXY)) if text else ""


def words(text: str) -> list[str]:
    """The parts of a comma-separated list, blanks around them and empty ones dropped."""
    return [word for part in text.split(",") if (word := part.strip())]


def folder(text: str) -> list[str]:
    """The one folder that is named, or none."""
    if text and not Path(text).is_dir():
        raise ValidationError("Not a folder.")
    return [text] if text else []


def texts(text: str) -> dict[str, str]:
    """A JSON object of strings; "" is an empty one."""
    try:
        found = json.loads(text or "{}")
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise ValidationError('Not a JSON object of strings, such as {"Slack": "Email:oncall@example.com"}.')
    return found


NO_URL = (
    "Not a database URL: write postgresql://USER:PASSWORD@HOST:5432/NAME or sqlite:////path/to/file, "
    "with special characters percent-encoded."
)
NO_NAME = "The URL names no database; special characters in a password must be percent-encoded."
POSTGRESQL = re.compile(r"(?:postgres|postgresql|pgsql)://((?:[^/]*@)?[^/?]*)([^?]*)\??(.*)", re.DOTALL)
PORTS = re.compile(r"(\d{0,5})(,\d{0,5})*")


def database(url: str, password: str = "") -> Database:
    """What DATABASES["default"] holds for a `postgresql://` or `sqlite://` URL.

    password  stands in the URL for `$(POSTGRES_PASSWORD)`, as it is, where there is one
    """
    url = url.replace(PASSWORD_PLACE, password or PASSWORD_PLACE)
    if parts := POSTGRESQL.fullmatch(url):
        return _postgresql(*parts.groups())
    try:
        parsed: Database = {**dj_database_url.parse(url)}
    except ValueError:
        parsed = {}
    if parsed.get("ENGINE", "").rpartition(".")[2] == "sqlite3":
        return _sqlite(parsed)
    raise ValidationError(NO_URL)


# A server that vanished without a word (its machine, a failover, the network between) is given up after a
# minute; the operating system would keep its connection for a quarter of an hour, or two hours when idle.
GIVE_UP = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
OUTSIDE_OPTIONS = ("dbname", "user", "password", "host", "port")
# What certctl's own driver takes in a URL, and other languages' write there; libpq takes it as an option.
SEARCH_PATH = ("search_path", "currentSchema")


def _postgresql(authority: str, path: str, query: str) -> Database:
    """As libpq takes it: several hosts, sockets, a service and what else it knows, read by libpq itself."""
    login, at, hosts = authority.rpartition("@")
    parameters = [part for part in query.split("&") if part]
    rest = [part for part in parameters if part.partition("=")[0] not in SEARCH_PATH]
    found = _read_by_libpq(
        f"postgresql://{login.replace('@', '%40')}{at}{hosts}{path}?{'&'.join(rest)}", path
    )
    if not found.get("dbname") and "service" not in found:
        raise ValidationError(NO_NAME)
    if not PORTS.fullmatch(found.get("port", "")):
        raise ValidationError(NO_URL)
    for part in (part for part in parameters if part not in rest):
        schemas = re.sub(r"([\s\\])", r"\\\1", unquote_plus(part.partition("=")[2]))
        found["options"] = f"{found.get('options', '')} -csearch_path={schemas}".lstrip()
    options = {name: value for name, value in found.items() if name not in OUTSIDE_OPTIONS}
    return {
        "ENGINE": "django.db.backends.postgresql",
        **{name: found.get(own, "") for name, own in zip(DJANGO_NAMES, OUTSIDE_OPTIONS, strict=True)},
        # They would be left behind on a connection that PgBouncer gives to somebody else.
        "DISABLE_SERVER_SIDE_CURSORS": True,
        "OPTIONS": GIVE_UP | {name: int(text) if text.isdigit() else text for name, text in options.items()},
    }


DJANGO_NAMES = ("NAME", "USER", "PASSWORD", "HOST", "PORT")


def _read_by_libpq(url: str, path: str) -> dict[str, str]:
    try:
        from psycopg import Error
        from psycopg.conninfo import conninfo_to_dict
        from psycopg.pq import Conninfo
    except ImportError:
        raise ValidationError("PostgreSQL needs psycopg: pip install 'psycopg[binary]'.") from None
    try:
        return {name: str(value) for name, value in conninfo_to_dict(url).items()}
    except (Error, UnicodeError):  # whose words can have the password in them
        known = {option.keyword.decode() for option in Conninfo.get_defaults()}
    query = url.partition("?")[2]
    odd = [name for name in re.findall(r"\b([a-z_]+)=", query) if name not in known]
    if path.strip("/") and odd and "@" not in query:  # else it may be of a password
        raise ValidationError(f"libpq, which connects, has no parameter {odd[0]!r}.")
    raise ValidationError(NO_URL)


def _sqlite(parsed: Database) -> Database:
    if parsed.get("HOST"):
        raise ValidationError("Write sqlite:/// before a relative path and sqlite://// before a full one.")
    options = {
        # Writers queue for the lock at BEGIN instead of failing when a reader turns into a writer.
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL;",
        **parsed.get("OPTIONS", {}),
    }
    return {**parsed, "OPTIONS": options}


def pooled(config: Database, size: int) -> Database:
    """`config` with a pool of at most `size` connections; as it was for size 0 and for SQLite.

    For processes with many threads (a web server): Django otherwise connects once per request.
    """
    if not size or not config["ENGINE"].endswith("postgresql"):
        return config
    pool = {"min_size": 1, "max_size": size, "timeout": 10}
    return {**config, "CONN_HEALTH_CHECKS": True, "OPTIONS": {**config["OPTIONS"], "pool": pool}}
