"""How the project writes its log for people."""

from __future__ import annotations

import logging

from notifications.text import one_line


class OneLineFormatter(logging.Formatter):
    """A record is one line, with its traceback: nobody's name, id or answer can look like another record."""

    def format(self, record: logging.LogRecord) -> str:
        return " | ".join(filter(None, map(one_line, super().format(record).splitlines())))
