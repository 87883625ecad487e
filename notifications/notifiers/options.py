"""What a channel's dict of settings may hold: declared once by its notifier, for all who need to know.

From the declarations come the findings of `manage.py check`, what the project reads from the environment,
what no error, log or preview shows, and the table in docs/channels.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any
from urllib.parse import urlsplit

from ..text import secret_patterns
from .http.proxy import is_proxy
from .wording import SAFE_NAME, Severity, severities_in

URL_START = re.compile(r"https?://[^/?#\\\s]+(?=[/?#]|$)", re.IGNORECASE)
SECRET_NAME = re.compile(r"URL|SECRET|TOKEN|PASSWORD|KEY")
TRUE, FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


@dataclass(frozen=True, slots=True)
class Kind:
    """What an option's values are.

    words    what `check` calls them: "an http or https URL"
    accepts  whether a value is one; a ValueError says better what is wrong with it
    read     makes the value of an environment variable's text; a ValueError means that it is none
    shown   whether a fault may repeat the value
    hides   what of a value is secret, where the option is: texts, or lists of them
    """

    words: str
    accepts: Callable[[Any], object]
    read: Callable[[str], Any] = str
    shown: bool = True
    hides: Callable[[Any], Iterable[Any]] = lambda value: [value]


@dataclass(frozen=True, slots=True)
class Option:
    """One entry of a channel's dict of settings.

    help         what it is for, in a few words
    default      what stands for it where it is not set
    required     nothing can be sent without it; in the project, the channel is off until it is set
    secret       no error, log or preview shows its value
    env          the environment variable that the project reads it from, "" for none
    counterpart  the option without which this one has no effect
    """

    name: str
    help: str
    kind: Kind
    default: Any = None
    required: bool = False
    secret: bool = False
    env: str = ""
    counterpart: str = ""

    def fault(self, value: Any) -> str:
        """What is wrong with the value, in words that follow the option's name; "" for nothing."""
        try:
            fault = "" if self.kind.accepts(value) else f"must be {self.kind.words}"
        except ValueError as error:
            return str(error)
        return f"{fault}, not {value!r}" if fault and self.kind.shown and not self.secret else fault

    def hidden(self, value: Any) -> Iterable[Any]:
        """What of the value nobody may see."""
        return self.kind.hides(value) if self.secret else []


def is_set(value: Any) -> bool:
    """Whether an option has a value: not None, not blank, not an empty list."""
    if isinstance(value, str):
        return bool(value.strip())
    return value is not None and value != [] and value != ()


def faults(declared: Iterable[Option], options: Mapping[str, Any]) -> Iterator[str]:
    """What is missing and what is wrong, a sentence each."""
    for option in declared:
        value = options.get(option.name)
        if not is_set(value):
            if option.required:
                yield f"{option.name} is missing"
        elif fault := option.fault(value):
            yield f"{option.name} {fault}"


def declared_by(own: Iterable[Option]) -> tuple[Option, ...]:
    """A channel's own options and the common ones; its own declaration of one of these wins."""
    return tuple({option.name: option for option in (*COMMON_OPTIONS, *own)}.values())


def unknown(declared: Iterable[Option], options: Mapping[str, Any]) -> Iterator[str]:
    names = sorted(option.name for option in declared)
    for name in options:
        if name not in names:
            yield f"there is no option {name!r}; the options are {', '.join(names)}"


def completed(declared: Iterable[Option], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options, and the declared defaults of those that are not set."""
    defaults = {
        option.name: option.default
        for option in declared
        if option.default is not None and not is_set(options.get(option.name))
    }
    return {**options, **defaults}


def secrets_in(declared: Iterable[Option], options: Mapping[str, Any]) -> frozenset[str]:
    """Patterns (text.redact) of the secrets among the options; those undeclared are told by their names."""
    known = {option.name: option for option in declared}
    return secret_patterns(
        part
        for name, value in options.items()
        for part in (known[name].hidden(value) if name in known else _hidden_by_name(name, value))
    )


def _hidden_by_name(name: str, value: Any) -> list[Any]:
    return [value] if SECRET_NAME.search(name) else []


def is_within(url: object, *domains: str) -> bool:
    """Whether the URL's host is one of the domains or within one."""
    try:
        host = (urlsplit(str(url or "")).hostname or "").rstrip(".")
    except ValueError:
        return False
    return any(host == domain or host.endswith(f".{domain}") for domain in domains)


def choice(*values: str) -> Kind:
    return Kind(f"one of {', '.join(values)}", lambda value: value in values, str.strip)


def list_of(kind: Kind) -> Kind:
    """A list, in the environment with commas."""
    return Kind(
        f"a list, each of it {kind.words}",
        lambda values: isinstance(values, list | tuple) and all(map(kind.accepts, values)),
        lambda text: [kind.read(word) for part in text.split(",") if (word := part.strip())],
        kind.shown,
    )


def _is_url(value: Any) -> bool:
    if "&amp;" in str(value):
        raise ValueError("has &amp; in it: copy it from the page, not from its source")
    url = str(value).strip()  # a URL from a file ends its line
    try:
        return urlsplit(url).port != 0 and bool(URL_START.match(url)) and not re.search(r"\s", url)
    except ValueError:
        return False


def _is_network(value: Any) -> bool:
    try:
        ip_network(str(value).strip())
    except ValueError:
        return False
    return True


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _severities(value: Any) -> bool:
    try:
        return bool(severities_in(value)) or isinstance(value, Mapping)
    except ValueError:
        return False


def _read_severities(text: str) -> str | dict[str, str]:
    """`error`, or `RenewalFailure=critical,PolicyViolation=info`."""
    if "=" not in text:
        return text.strip()
    pairs = (part.partition("=") for part in text.split(",") if part.strip())
    return {type.strip(): severity.strip() for type, _, severity in pairs}


def _flag(text: str) -> bool:
    word = text.strip().lower()
    if word not in TRUE + FALSE:
        raise ValueError
    return word in TRUE


TEXT = Kind("a string", lambda value: isinstance(value, str))
URL = Kind("an http or https URL", _is_url, str.strip, shown=False)  # a URL can have a password in it
NETWORKS = list_of(
    Kind(
        "a network such as 10.0.0.0/8, without host bits",
        _is_network,
        lambda text: str(ip_network(text, strict=False)),
    )
)
COUNT = Kind("a whole number of 1 or more", _is_count, int)
PORT = Kind("a port", lambda value: _is_count(value) and value <= 65535, int)
FLAG = Kind("true or false", lambda value: isinstance(value, bool), _flag)

POSITIVE = Kind("a number above 0 or None", lambda value: _is_number(value) and value > 0, float)


def combine_after(env: str = "") -> Option:
    """The option of channels that have a pace; env: its variable."""
    text = "alerts that have waited for so many seconds, while others wait too, go out as one message"
    return Option("COMBINE_AFTER", text, POSITIVE, env=env)


FOLDER = Kind(
    "a folder's name of small letters, digits, - and _",
    lambda value: isinstance(value, str) and bool(SAFE_NAME.fullmatch(value)),
)
SEVERITY_MAP = Kind(
    f"one of {', '.join(Severity)}, or a map from types to them", _severities, _read_severities
)


def words_options(env: str = "") -> tuple[Option, ...]:
    """What is said in front of an alert, and how grave it is. env: how their variables begin, if any."""
    return (
        Option("PREFIX", "in front of every headline", TEXT, env=env and f"{env}_PREFIX"),
        Option(
            "SEVERITY",
            "instead of what follows from an alert's type",
            SEVERITY_MAP,
            env=env and f"{env}_SEVERITY",
        ),
    )


def _is_headers(value: Any) -> bool:
    if not isinstance(value, Mapping):
        return False
    for name, text in value.items():
        if not (isinstance(name, str) and HEADER_NAME.fullmatch(name)):
            raise ValueError("has a name in it that is no header's")
        if name.lower() in OWN_HEADERS:
            raise ValueError(f"sets {name}, which the program sets itself")
        if not (isinstance(text, str) and HEADER_VALUE.fullmatch(text)):
            raise ValueError(f"has a value for {name} that is no line of text")
    return True


def _hidden_in_headers(value: Any) -> Iterator[Any]:
    """Each value, and what follows its `Bearer` or `Basic`."""
    texts = value.values() if isinstance(value, Mapping) else [value]
    for text in map(str, texts):
        yield text
        if " " in text.strip():
            yield text.split()[-1]


def _hidden_in_proxy(value: Any) -> Iterator[Any]:
    texts = value.values() if isinstance(value, Mapping) else [value]
    return (text for text in map(str, texts) if "@" in text)


HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
HEADER_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
OWN_HEADERS = {
    *("accept-encoding", "connection", "content-length", "content-type", "expect", "host", "keep-alive"),
    *("idempotency-key", "proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding"),
    *("upgrade", "webhook-id", "webhook-signature", "webhook-timestamp", "x-signature"),
}
HEADERS = Kind(
    'headers and their values, such as {"Authorization": "Bearer …"}',
    _is_headers,
    json.loads,
    shown=False,
    hides=_hidden_in_headers,
)
PROXY = Kind(
    "http://HOST:PORT of a proxy, or direct", is_proxy, str.strip, shown=False, hides=_hidden_in_proxy
)


def tls_options(env: str = "") -> tuple[Option, ...]:
    """Whom a channel trusts, and what it shows. env: how their variables begin, if any."""
    return (
        Option(
            "TLS_CA",
            "a file with certificate authorities to trust besides the system's",
            TEXT,
            env=env and f"{env}_TLS_CA",
        ),
        Option(
            "TLS_CERT",
            "a file with the certificate to show to a server that wants one",
            TEXT,
            env=env and f"{env}_TLS_CERT",
        ),
        Option(
            "TLS_KEY",
            "the file with its key, where that is another one",
            TEXT,
            env=env and f"{env}_TLS_KEY",
            counterpart="TLS_CERT",
        ),
    )


def http_options(env: str = "") -> tuple[Option, ...]:
    """The way that a channel's requests take, and what they carry besides."""
    return (
        Option(
            "PROXY",
            "the way out; `direct` for none, where HTTPS_PROXY names one",
            PROXY,
            secret=True,
            env=env and f"{env}_PROXY",
        ),
        *tls_options(env),
        Option(
            "HEADERS",
            "more headers of every request to the site's own address, as JSON",
            HEADERS,
            secret=True,
            env=env and f"{env}_HEADERS",
        ),
    )


# What every channel takes besides its own options.
COMMON_OPTIONS = (
    *words_options(),
    *http_options(),
    Option("TEMPLATES", "the folder of a site's own templates, where it is not the channel's", FOLDER),
    Option("NOTIFIER", "the dotted path of the class", Kind("a dotted path", lambda value: True)),
    Option(
        "MAX_PER_SECOND",
        "at most so many a second to one endpoint",
        POSITIVE,
    ),
    Option(
        "ENDPOINT_CONCURRENCY",
        "at most so many at once to one endpoint",
        Kind("a whole number of 1 or more or None", _is_count),
    ),
)
