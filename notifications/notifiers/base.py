"""What a notifier is: the object that speaks to one channel's provider.

A site adds a channel of its own with a subclass and an entry in NOTIFICATIONS["CHANNELS"].
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, NamedTuple

from django.core.exceptions import ImproperlyConfigured
from django.template.loader import render_to_string
from django.utils.module_loading import import_string

from ..exceptions import DeliveryError, PermanentError, Reason, TransientError, UnknownOutcome
from ..text import Size, cut, one_line, secrets_of
from .endpoint import Endpoint as Endpoint
from .http.answers import raise_for
from .http.client import Answer, HttpClient

HTTP_URL = re.compile(r"https?://[^/?#\\\s]+(?=[/?#]|$)", re.IGNORECASE)
SAFE_ID = re.compile(r"[A-Za-z0-9_-]+")
# What every channel takes besides its own options.
COMMON_OPTIONS = frozenset({"NOTIFIER", "MAX_PER_SECOND", "ENDPOINT_CONCURRENCY"})


class Message(NamedTuple):
    """One notification as a notifier sees it: plain values, no database.

    id       the notification's, the same on every attempt: the provider's idempotency key
    attempt  1 for the first
    url      the notification's page in the admin, "" when the site's address is not configured
    """

    id: str
    type: str
    channel: str
    recipient: str
    message: str
    certificate_id: str | None
    created_at: datetime
    attempt: int = 1
    url: str = ""

    def key(self, limit: int = 255) -> str:
        """The id where it is safe in a header and within the provider's limit, else its SHA-256."""
        safe = len(self.id) <= limit and SAFE_ID.fullmatch(self.id)
        return self.id if safe else hashlib.sha256(self.id.encode("utf-8", "replace")).hexdigest()


@dataclass(slots=True)
class Delivered:
    """The provider took it. `status` and `detail` are its own answer."""

    status: int | None = None
    detail: str = ""


class Notifier:
    """Speaks to one channel's provider.

    `options` is the channel's dict of settings. `send` returns Delivered, or raises TransientError,
    UnknownOutcome or PermanentError; anything else that it raises counts as transient.

    name                  the channel as the settings spell it
    max_per_second        what one endpoint takes, None for no limit (option MAX_PER_SECOND)
    endpoint_concurrency  how many at once to one endpoint (option ENDPOINT_CONCURRENCY)
    """

    # Whether the provider folds a repeated message with the same id into the first.
    folds_repeats: ClassVar[bool] = False
    # The options that the class knows (None: it takes any) and those that it cannot work without.
    known: ClassVar[frozenset[str] | None] = None
    required: ClassVar[frozenset[str]] = frozenset()
    # The folder of its templates, notifications/<templates>/subject.txt and body.txt; what is not
    # there comes from notifications/default/.
    templates: ClassVar[str] = "default"
    default_max_per_second: ClassVar[float | None] = None
    default_endpoint_concurrency: ClassVar[int | None] = None

    def __init__(self, options: Mapping[str, Any], http: HttpClient) -> None:
        self.options = options
        self.http = http
        self.name = type(self).__name__.removesuffix("Notifier")
        self.max_per_second: float | None = options.get("MAX_PER_SECOND", self.default_max_per_second)
        self.endpoint_concurrency: int | None = options.get(
            "ENDPOINT_CONCURRENCY", self.default_endpoint_concurrency
        )

    @classmethod
    def faults(cls, options: Mapping[str, Any]) -> list[str]:
        """What is wrong with the options, a sentence each; `manage.py check` shows them."""
        missing = sorted(name for name in cls.required if not options.get(name))
        return (
            [f"{name} is missing" for name in missing] + common_faults(options) + cls.option_faults(options)
        )

    @staticmethod
    def option_faults(options: Mapping[str, Any]) -> list[str]:
        """What is wrong with the values of the channel's own options."""
        return []

    def endpoint(self, message: Message) -> Endpoint:
        return Endpoint(key=self.name.casefold(), channel=self.name)

    def option(self, name: str) -> str:
        """Without blanks around it: a key from a file ends its line. Raises PermanentError when not set."""
        value = str(self.options.get(name) or "").strip()
        if not value:
            raise PermanentError(
                f"the channel {self.name} has no {name}",
                reason=Reason.CONFIG,
                advice=f"set {name} in the channel's settings, then requeue",
            )
        return value

    def subject(self, message: Message) -> str:
        """One line, from notifications/<channel>/subject.txt."""
        return one_line(self._render("subject.txt", message)) or "certctl notification"

    def body(self, message: Message) -> str:
        """Plain text, from notifications/<channel>/body.txt."""
        return self._render("body.txt", message).strip() or self.subject(message)

    def shortened(self, body: str, message: Message, limit: int, size: Size = len) -> str:
        """`body(message)` within the limit: the message in it is cut, so that what follows it stays."""
        if size(body) <= limit:
            return body

        def shown(part: str) -> str:
            return self.body(message._replace(message=part))

        part = cut(message.message, limit, lambda part: size(shown(part)))
        return cut(shown(part), limit, size)

    def _render(self, name: str, message: Message) -> str:
        candidates = [f"notifications/{self.templates}/{name}", f"notifications/default/{name}"]
        try:
            text = render_to_string(candidates, {"message": message})
        except Exception as error:  # a site's own template can raise anything
            raise PermanentError(
                f"the template {candidates[0]} fails: {type(error).__name__}: {error}",
                reason=Reason.CLIENT,
                advice="correct the template, then requeue",
            ) from error
        return text.encode("utf-8", "replace").decode()  # half a surrogate pair cannot be sent anywhere

    async def send(self, message: Message) -> Delivered:
        raise NotImplementedError(f"{type(self).__name__} must define send")

    async def close(self) -> None:
        """Give back what `send` holds on to."""


class JsonNotifier(Notifier):
    """A notifier whose provider takes one POST of JSON."""

    def url(self, message: Message) -> str:
        raise NotImplementedError(f"{type(self).__name__} must define url")

    def payload(self, message: Message) -> bytes:
        """The JSON, within the provider's limits."""
        raise NotImplementedError(f"{type(self).__name__} must define payload")

    def judge(self, answer: Answer) -> Delivered:
        """What the provider's answer means; raises the delivery error where it is not success."""
        raise_for(answer)
        return Delivered(answer.status, answer.quoted())

    def headers(self, message: Message) -> dict[str, str]:
        return {"Content-Type": "application/json; charset=utf-8", "Idempotency-Key": message.key()}

    def base_url(self, default: str, path: str) -> str:
        """The option BASE_URL, with or without the path, or the provider's own."""
        base = str(self.options.get("BASE_URL") or default).rstrip("/")
        return base if base.endswith(path) else base + path

    async def send(self, message: Message) -> Delivered:
        answer = await self.http.post(self.url(message), self.payload(message), self.headers(message))
        return self.judge(answer)


class SyncNotifier(Notifier):
    """A notifier whose provider's library blocks: `deliver` runs in a thread of the channel's own pool."""

    threads: ClassVar[int] = 8
    default_endpoint_concurrency = 8

    def __init__(self, options: Mapping[str, Any], http: HttpClient) -> None:
        super().__init__(options, http)
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix=type(self).__name__)

    def deliver(self, message: Message) -> Delivered:
        raise NotImplementedError(f"{type(self).__name__} must define deliver")

    def abandon(self, message: Message) -> DeliveryError:
        """Called on the event loop when `deliver` ran out of time: what that means.

        A thread cannot be killed; where the library allows it, make this one come back soon.
        """
        return UnknownOutcome(f"no answer within {self.http.timeout:g} s; it may have arrived")

    async def send(self, message: Message) -> Delivered:
        """What `deliver` says, if it says it in time."""
        future = self._pool.submit(self.deliver, message)
        try:
            done, _ = await asyncio.wait({_observed(future)}, timeout=self.http.timeout)
        except asyncio.CancelledError:
            if not future.cancel():
                self.abandon(message)
            raise
        if done:
            return future.result()
        if future.cancel():
            text = f"no thread was free within {self.http.timeout:g} s"
            raise TransientError(text, reason=Reason.TIMEOUT)
        raise self.abandon(message)

    async def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


def _observed(future: Future[Delivered]) -> asyncio.Future[Delivered]:
    """For waiting on; what it raises after nobody waits any more goes unreported."""
    wrapped = asyncio.wrap_future(future)
    wrapped.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    return wrapped


def common_faults(options: Mapping[str, Any]) -> list[str]:
    found = []
    rate = options.get("MAX_PER_SECOND")
    if rate is not None and (isinstance(rate, bool) or not isinstance(rate, int | float) or rate <= 0):
        found.append(f"MAX_PER_SECOND must be a number above 0 or None, not {rate!r}")
    at_once = options.get("ENDPOINT_CONCURRENCY")
    if at_once is not None and (isinstance(at_once, bool) or not isinstance(at_once, int) or at_once < 1):
        found.append(f"ENDPOINT_CONCURRENCY must be a whole number of 1 or more or None, not {at_once!r}")
    return found


def url_faults(options: Mapping[str, Any], name: str = "URL") -> list[str]:
    """What is wrong with an option that is an http or https URL, where it is given."""
    value = options.get(name) or "https://given.example"
    if not HTTP_URL.match(str(value)):
        return [f"{name} is not an http or https URL"]
    return [f"{name} has &amp; in it: copy it from the page, not from its source"] if "&amp;" in value else []


def load(name: str, options: Mapping[str, Any], timeout: float) -> Notifier:
    """The notifier of a configured channel; timeout: seconds for one attempt.

    Raises ImproperlyConfigured, in one line that names the channel, when it cannot be made. An option
    that is only missing raises nothing here: the rows of that channel die and say so, the others go out.
    """
    try:
        notifier_class = import_string(options["NOTIFIER"])
        if found := common_faults(options):
            raise ValueError("; ".join(found))
        http = HttpClient(
            timeout=own_deadline(timeout),
            allowed=options.get("ALLOWED_NETWORKS") or (),
            secrets=secrets_of(options),
        )
        notifier: Notifier = notifier_class(options, http)
    except (ImportError, TypeError, ValueError) as error:
        raise ImproperlyConfigured(f"channel {name}: {error}") from error
    notifier.name = name
    return notifier


def own_deadline(timeout: float) -> float:
    """A little before the engine's: the notifier knows how far it came, the engine does not."""
    return timeout - min(1.0, timeout / 20)
