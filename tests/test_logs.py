"""A record is one line, whatever is in it."""

from __future__ import annotations

import logging
import sys
from logging.config import DictConfigurator

import pytest
from django.conf import settings


def formatter(name: str) -> logging.Formatter:
    options = dict(settings.LOGGING["formatters"][name])
    made: logging.Formatter = DictConfigurator({"version": 1}).configure_formatter(options)
    return made


@pytest.mark.parametrize("name", ["plain", "json"])
def test_nothing_in_a_record_looks_like_another(name: str) -> None:
    forged = "Slack\n2026-11-26 00:00:00,000 ERROR root: forged\x1b[2J\u2028x"
    try:
        raise ValueError(forged)
    except ValueError:
        record = logging.LogRecord("n", logging.ERROR, "", 1, "channel %s", (forged,), sys.exc_info())
    written = formatter(name).format(record)
    assert written.isprintable()
    assert "forged" in written
    assert "Traceback" in written
