"""A channel whose answers a test scripts, where HTTP would add nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from notifications.notifiers.base import Delivered, Message, Notifier, SyncNotifier

ACCEPTED = Delivered(200, "ok")


class Script:
    """What the channel answers, by the notification's id, and what it was asked to send.

    An answer is a Delivered, an exception to raise, a function of the message that makes one of
    these, or anything else that a faulty notifier could come up with.
    """

    def __init__(self, answers: Mapping[str, Any] | None = None, otherwise: Any = ACCEPTED) -> None:
        self.answers = dict(answers or {})
        self.otherwise = otherwise
        self.messages: list[Message] = []

    @property
    def ids(self) -> list[str]:
        return [message.id for message in self.messages]

    def play(self, message: Message) -> Any:
        self.messages.append(message)
        answer = self.answers.get(message.id, self.otherwise)
        answer = answer(message) if callable(answer) else answer
        if isinstance(answer, BaseException):
            raise answer
        return answer


class ScriptedNotifier(Notifier):
    async def send(self, message: Message) -> Delivered:
        return self.options["SCRIPT"].play(message)  # type: ignore[no-any-return]


class ScriptedSyncNotifier(SyncNotifier):
    def deliver(self, message: Message) -> Delivered:
        return self.options["SCRIPT"].play(message)  # type: ignore[no-any-return]


def channel(script: Script, notifier: type[Notifier] = ScriptedNotifier) -> dict[str, Any]:
    """The channel's entry in NOTIFICATIONS["CHANNELS"]."""
    return {"NOTIFIER": f"{notifier.__module__}.{notifier.__qualname__}", "SCRIPT": script}
