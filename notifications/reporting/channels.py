"""The names of channels: rows spell them in any case, people read them as the settings do."""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured

from .. import conf
from ..models.tallies import NOT_CONFIGURED


def settings() -> conf.Conf:
    """What the settings say; the defaults where they are faulty: `manage.py check` says what is wrong."""
    try:
        return conf.current()
    except ImproperlyConfigured:
        return conf.Conf()


class Channels:
    """What is configured is spelled and sorted as configured, the rest as the rows have it."""

    def __init__(self) -> None:
        self._settings = settings()

    @property
    def configured(self) -> list[str]:
        return list(self._settings.channels)

    def is_configured(self, name: str) -> bool:
        return self._settings.channel(name) is not None

    def spelled(self, name: str) -> str:
        return self._settings.channel(name) or name

    def folded(self, name: str) -> str:
        """One name for all that are not configured."""
        return self._settings.channel(name) or NOT_CONFIGURED
