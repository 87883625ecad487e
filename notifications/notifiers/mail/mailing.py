"""One notification's mail on its way: who has it, who has not, and what that adds up to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from email.headerregistry import Address

from ...exceptions import DeliveryError, PermanentError, Reason, TransientError
from ..base import Delivered, Message
from .connections import BACKEND_ANSWER, MailConnection
from .refusals import ADVICE
from .words import Meaning


@dataclass(eq=False)
class Mailing:
    """
    missing     the addresses that did not take it yet
    answered    what became of the others: "" for who took it, else the refusal, in an earlier attempt or this
    refused     the addresses that did not take it in this attempt, and what that means
    said        the server's words on taking it
    connection  that it is on, for now
    waits       for a connection
    given_up    nobody waits for it any more, so nothing more may be sent of it
    """

    message: Message
    missing: dict[str, Address] = field(default_factory=dict)
    answered: dict[str, str] = field(default_factory=dict)
    refused: dict[str, DeliveryError] = field(default_factory=dict)
    said: str = BACKEND_ANSWER
    dialogue: list[str] = field(default_factory=list)
    connection: MailConnection | None = None
    waits: bool = False
    given_up: bool = False

    def begin(self, named: Iterable[Address]) -> None:
        """Those of the addresses that have answered before are not asked again."""
        every = {address.addr_spec: address for address in named}
        before = self.message.answered
        self.answered = {spec: before[spec] for spec in every if spec in before}
        self.missing = {spec: address for spec, address in every.items() if spec not in before}

    def took(self, specs: Iterable[str]) -> None:
        for spec in specs:
            del self.missing[spec]
            self.answered[spec] = ""

    def refuse(self, spec: str, error: DeliveryError) -> None:
        del self.missing[spec]
        self.refused[spec] = error

    def result(self) -> Delivered:
        """Raises what the refusals add up to, where there are any."""
        failed = {spec: said for spec, said in self.answered.items() if said}
        if not (self.refused or failed):
            return Delivered(250, self.said, self.dialogue)
        errors = list(self.refused.values())
        first = next((e for e in errors if not isinstance(e, PermanentError)), errors[0] if errors else None)
        if len(self.answered) + len(self.refused) == 1 and first:
            raise first
        kind = TransientError if isinstance(first, TransientError) else PermanentError
        raise self.told(
            kind(
                self._summary(failed),
                reason=self._reason(first),
                status=first.status if first else None,
                retry_after=first.retry_after if first else None,
                advice=first.advice if first else ADVICE[Meaning.RECIPIENT],
            )
        )

    def _reason(self, error: DeliveryError | None) -> Reason:
        """A server that took it for one is not down, nor closed to us."""
        if error is None or isinstance(error, PermanentError):
            return Reason.CLIENT
        return Reason.DEFERRED if "" in self.answered.values() and error.blames_endpoint else error.reason

    def _summary(self, failed: Mapping[str, str]) -> str:
        have, of = list(self.answered.values()).count(""), len(self.answered) + len(self.refused)
        errors = {spec: error.text for spec, error in self.refused.items()}
        named = "; ".join(f"{spec}: {text}" for spec, text in {**failed, **errors}.items())
        return f"{have} of {of} recipients have it; not {named}"

    def told(self, error: DeliveryError) -> DeliveryError:
        """The error, with what is known now for the attempts that follow."""
        final = {spec: e.text for spec, e in self.refused.items() if isinstance(e, PermanentError)}
        if len(self.answered) + len(self.refused) + len(self.missing) > 1:
            before = self.message.answered
            error.answered = {k: v for k, v in {**self.answered, **final}.items() if before.get(k) != v}
        error.dialogue = list(self.dialogue)
        return error
