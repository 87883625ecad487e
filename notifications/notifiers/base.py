"""What a notifier is: the object that speaks to one channel's provider.

A site adds a channel of its own with a subclass and an entry in NOTIFICATIONS["CHANNELS"].
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from typing import Any, ClassVar

from django.core.checks import CheckMessage
from django.utils import timezone

from ..exceptions import (
    CUT_MARK,
    DeliveryError,
    EndpointEffect,
    PermanentError,
    Reason,
    TransientError,
    UnknownOutcome,
)
from ..text import MESSAGE_LIMIT, Size, cut, fold, largest, one_line
from .endpoint import Endpoint as Endpoint
from .http.answers import raise_for
from .http.client import Answer, HttpClient
from .message import Delivered as Delivered
from .message import Message as Message
from .message import key_of as key_of
from .options import COMMON_OPTIONS, Option, completed, declared_by, faults, secrets_in, unknown
from .templates import BODY, SUBJECT, OwnWords
from .wording import LABELS, SOLVED, Severity, Words, kind_of, severities_in, together, words_of

logger = logging.getLogger(__name__)

NOT_KNOWN = "?"  # in the place of an id
# Characters that are read of what is short in a sound row.
NAME_LIMIT = 1_000
LINK_LIMIT = 2_000


class Notifier:
    """Speaks to one channel's provider.

    `options` is the channel's dict of settings, with the declared defaults. `send` returns Delivered, or
    raises TransientError, UnknownOutcome or PermanentError; anything else that it raises counts as transient.

    name                  the channel as the settings spell it
    max_per_second        what one endpoint takes, None for no limit (option MAX_PER_SECOND)
    combine_after         seconds after which what waits goes out as one message, None for never
    endpoint_concurrency  how many at once to one endpoint (option ENDPOINT_CONCURRENCY)
    verbose               whether somebody wants to read the dialogue
    """

    verbose = False

    # The channel's own options; None: it takes any, and tells secrets by their names.
    declared_options: ClassVar[Sequence[Option] | None] = None
    # Those of the common options that nothing here reads.
    without: ClassVar[Collection[str]] = ()
    # What the project reads from the environment for Django's settings instead of the channel's dict.
    django_options: ClassVar[Sequence[Option]] = ()
    # Whether the provider can be told that an alert is over: then a success gets its failures in `opened`.
    resolves: ClassVar[bool] = False
    # Whether the provider folds a repeated message with the same id into the first.
    folds_repeats: ClassVar[bool] = False
    # The folder of a site's own templates below notifications/; what is not there is looked for in default/.
    templates: ClassVar[str] = "default"
    # What its messages look like where people read them: chat, card, mail, incident, plain; "" where programs
    # read them. The console draws it so.
    looks: ClassVar[str] = "plain"
    # How many characters of a message the provider can take at most.
    message_limit: ClassVar[int] = MESSAGE_LIMIT
    default_max_per_second: ClassVar[float | None] = None
    # Whether several notifications to one recipient may go out as one message (option COMBINE_AFTER).
    combines: ClassVar[bool] = False
    default_endpoint_concurrency: ClassVar[int | None] = None

    def __init__(self, options: Mapping[str, Any], http: HttpClient) -> None:
        self.options = completed(self.declared_options or (), options)
        self.http = http
        self.name = self.title()
        rate, at_once = self.default_max_per_second, self.default_endpoint_concurrency
        self.max_per_second: float | None = options.get("MAX_PER_SECOND", rate) or None
        self.combine_after: float | None = (options.get("COMBINE_AFTER") or None) if self.combines else None
        self.endpoint_concurrency: int | None = options.get("ENDPOINT_CONCURRENCY", at_once) or None
        self.prefix = one_line(str(self.options.get("PREFIX") or ""))
        self.severities = severities_in(self.options.get("SEVERITY"))
        folder = self.options.get("TEMPLATES")
        self.own_words = OwnWords([*([folder] if folder else []), self.templates, "default"])

    @classmethod
    def title(cls) -> str:
        """The channel's name where the settings do not choose another one."""
        return cls.__name__.removesuffix("Notifier")

    @classmethod
    def faults(cls, options: Mapping[str, Any]) -> list[str]:
        """What is wrong with the options, a sentence each; `manage.py check` shows them."""
        if cls.declared_options is None:
            return [*faults(COMMON_OPTIONS, options), *cls.option_faults(options)]
        declared = [one for one in declared_by(cls.declared_options) if one.name not in cls.without]
        return [*unknown(declared, options), *faults(declared, options), *cls.option_faults(options)]

    @classmethod
    def option_faults(cls, options: Mapping[str, Any]) -> list[str]:
        """What is wrong with the options together, beyond their declarations."""
        return []

    @classmethod
    def warnings(cls, options: Mapping[str, Any]) -> list[CheckMessage]:
        """What `manage.py check` should warn of, such as a provider that retires; each with a hint."""
        return []

    @classmethod
    def secrets(cls, options: Mapping[str, Any]) -> frozenset[str]:
        """Patterns (text.redact) of what no error, log or preview may show."""
        return secrets_in(declared_by(cls.declared_options or ()), options)

    @classmethod
    def recipient_fault(cls, recipient: str, options: Mapping[str, Any]) -> str:
        """Why nothing can be sent to the recipient, in words; "" where nothing is known against it."""
        return ""

    def preview(self, message: Message) -> str:
        """What `send` would hand over, for people. Raises PermanentError where nothing can be sent."""
        return f"{self.subject(message)}\n\n{self.body(message)}"

    def bounded(self, message: Message) -> Message:
        """The message as far as the provider could take it: what is composed of it stays cheap."""
        type, recipient, certificate = message.type, message.recipient, message.certificate_id or ""
        names = len(type) + len(recipient) + len(certificate) + len(message.url)
        if names <= NAME_LIMIT and len(message.message) <= self.message_limit:
            return message
        return message._replace(
            type=cut(type, NAME_LIMIT),
            recipient=cut(recipient, NAME_LIMIT),
            message=cut(message.message, self.message_limit),
            certificate_id=message.certificate_id and cut(certificate, NAME_LIMIT),
            url=message.url if len(message.url) <= LINK_LIMIT else "",
        )

    def endpoint(self, message: Message) -> Endpoint:
        return Endpoint(key=fold(self.name), channel=self.name)

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

    def words(self, message: Message, now: datetime | None = None) -> Words:
        """What is said of the message on this channel: the site's own words, else the plain ones."""
        message, now = self.bounded(message), now or timezone.now()
        if message.combined:
            return together([self.words(each, now) for each in message.combined])
        words = words_of(message, now, severity=self.severity)
        context = {
            "message": message._replace(id=cut(message.id, NAME_LIMIT)),
            "channel": self.name,
            "now": now,
            "headline": words.headline,
            "label": words.label,
            "severity": words.severity,
            "text": words.text,
            "facts": words.facts,
        }
        subject = self.own_words.render(SUBJECT, message.type, context)
        body = self.own_words.render(BODY, message.type, context)
        headline = one_line(subject or "") or f"{self.prefix} {words.headline}".lstrip()
        fault = "; ".join(f"the template {path} fails: {why}" for path, why in self.own_words.faults.items())
        words = replace(words, headline=headline, fault=fault)
        if text := (body or "").strip():
            words = replace(words, text=text, detail=text, facts=(), own=True)
        return words

    def try_templates(self) -> dict[str, str]:
        """What is wrong with a site's own templates, by template: each is given an alert of its type."""
        for type in LABELS:
            self.words(Message("id", type, self.name, "recipient", "An example.", "id", timezone.now()))
        return self.own_words.faults

    def severity(self, type: str, given: Severity) -> Severity:
        """Of an alert of this type, as the site wants it."""
        return self.severities.get(kind_of(type)) or self.severities.get("") or given

    def subject(self, message: Message) -> str:
        """One line that says what it is."""
        return self.words(message).headline

    def body(self, message: Message) -> str:
        """Plain text: all that there is to say, the facts aligned, the link at the end."""
        return self.words(message).body() or self.subject(message)

    def shortened(self, body: str, message: Message, limit: int, size: Size = len) -> str:
        """`body(message)` within the limit: the message in it is cut, so that what follows it stays."""
        if size(body) <= limit:
            return body
        words = self.words(message)
        return self._own_within(message, limit, size) if words.own else words.body(limit, size)

    def below(self, words: Words, headline_limit: int, message: Message, limit: int, size: Size = len) -> str:
        """What a channel says below a headline of which it shows so much, within the limit."""
        text = words.below(headline_limit)
        if words.own and size(text) > limit:
            return self._own_within(message, limit, size)
        return cut(text, limit, size)

    def _own_within(self, message: Message, limit: int, size: Size) -> str:
        """What a site's own template makes of a message that is cut; at last it is cut itself."""

        def shown(count: int) -> str:
            return self.body(message._replace(message=message.message[:count] + CUT_MARK))

        length = min(len(message.message), limit)
        return cut(shown(largest(length, lambda count: size(shown(count)) <= limit)), limit, size)

    async def send(self, message: Message) -> Delivered:
        raise NotImplementedError(f"{type(self).__name__} must define send")

    async def close(self) -> None:
        """Give back what `send` holds on to."""


class JsonNotifier(Notifier):
    """A notifier whose provider takes one POST of JSON."""

    # Whether a recipient may say where: then only public addresses and ALLOWED_NETWORKS are reached.
    guarded: ClassVar[bool] = False

    def guards(self, message: Message) -> bool:
        """Whether that is so for this message's recipient."""
        return self.guarded

    def url(self, message: Message) -> str:
        raise NotImplementedError(f"{type(self).__name__} must define url")

    def payload(self, message: Message) -> bytes:
        """The JSON, within the provider's limits, of a message that is `bounded` already."""
        raise NotImplementedError(f"{type(self).__name__} must define payload")

    def judge(self, answer: Answer) -> Delivered:
        """What the provider's answer means; raises the delivery error where it is not success."""
        raise_for(answer)
        return Delivered(answer.status, answer.quoted())

    def headers(self, message: Message) -> dict[str, str]:
        return {"Content-Type": "application/json; charset=utf-8", "Idempotency-Key": message.key()}

    def signature(self, message: Message, body: bytes) -> dict[str, str]:
        """Headers that depend on the body, made afresh for each attempt."""
        return {}

    def base_url(self, path: str) -> str:
        """The option BASE_URL, with or without the path."""
        base = self.option("BASE_URL").rstrip("/")
        return base if base.endswith(path) else base + path

    def preview(self, message: Message) -> str:
        self.url(message), self.headers(message)  # each can say why nothing can be sent
        content = json.loads(self.payload(self.bounded(message)))
        return json.dumps(content, indent=2, ensure_ascii=False)

    async def send(self, message: Message) -> Delivered:
        url, body = self.url(message), self.payload(self.bounded(message))
        headers = {**self.headers(message), **self.signature(message, body)}
        answer = await self.http.post(url, body, headers, guarded=self.guards(message))
        try:
            delivered = self.judge(answer)
        except DeliveryError as error:
            error.dialogue = answer.dialogue()
            raise
        if self.verbose:
            delivered.dialogue = answer.dialogue()
        return delivered


class ResolvingNotifier(JsonNotifier):
    """A notifier whose provider keeps alerts open until it is told that they are over."""

    resolves = True

    def resolution(self, opened: str) -> tuple[str, bytes]:
        """The URL and the JSON that end the alert of the notification with this id."""
        raise NotImplementedError(f"{type(self).__name__} must define resolution")

    def ends(self, message: Message) -> str:
        """The id of the alert that it ends, and says nothing else; "" for what is an alert itself."""
        return message.opened[0] if message.opened and kind_of(message.type) == SOLVED else ""

    def preview(self, message: Message) -> str:
        if not (opened := self.ends(message)):
            return super().preview(message)
        _, body = self.resolution(opened)
        return json.dumps(json.loads(body), indent=2, ensure_ascii=False)

    async def _resolve(self, message: Message, opened: str) -> Delivered:
        if opened == NOT_KNOWN:
            raise TransientError("which alert it ends could not be read")
        url, body = self.resolution(opened)
        answer = await self.http.post(url, body, self.headers(message), guarded=self.guarded)
        delivered = self.judge(answer)
        delivered.detail = f"{delivered.detail}; the open alert is resolved".lstrip("; ")
        return delivered

    async def send(self, message: Message) -> Delivered:
        """The alert, and then the ends of those in `opened`, all one attempt: a failure repeats all, and the
        provider folds what it had. One that the provider refuses as such is passed over: the alert is out.
        What only says that an alert is solved opens none."""
        if opened := self.ends(message):
            return await self._resolve(message, opened)
        delivered = await super().send(message)
        refused = 0
        for opened in message.opened:
            url, body = self.resolution(opened)
            headers = {**self.headers(message), "Idempotency-Key": f"{message.key()}-ends-{key_of(opened)}"}
            try:
                self.judge(await self.http.post(url, body, headers, guarded=self.guarded))
            except PermanentError as error:
                if error.endpoint_effect is not EndpointEffect.HEALTHY:
                    raise
                refused += 1
                logger.warning("the alert of notification %s stays open: %s", opened, error)
        if ended := len(message.opened) - refused:
            delivered.detail = f"{delivered.detail}; {ended} open alerts resolved".lstrip("; ")
        return delivered


class SyncNotifier(Notifier):
    """A notifier whose provider's library blocks: `deliver` runs in a thread of the channel's own pool."""

    threads: int = 8
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
        """What `deliver` says, if it says it in time. The message is whole: `subject` and `body` bound it."""
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
