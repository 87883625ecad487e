"""A channel whose settings cannot be read: it says so of each of its rows, and all others go on."""

from __future__ import annotations

from typing import NoReturn

from ..exceptions import PermanentError, Reason
from .base import Delivered, Message, Notifier
from .options import TEXT, Option


class RefusedNotifier(Notifier):
    declared_options = (Option("FAULT", "what is wrong, and where it is set", TEXT, required=True),)

    def preview(self, message: Message) -> str:
        self._refuse()

    async def send(self, message: Message) -> Delivered:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise PermanentError(self.option("FAULT"), reason=Reason.CONFIG, advice="correct it, then requeue")
