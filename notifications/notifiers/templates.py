"""A site's own words for a channel: Django templates, for one type or for all.

`subject.txt` is the first line, `body.txt` the rest. They are looked for in notifications/<folder>/<type>/
and notifications/<folder>/, first of the channel, then of `default`. One that fails is logged, and the plain
words go out.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from django.template import Context, TemplateDoesNotExist
from django.template.backends.django import Template as DjangoTemplate
from django.template.loader import get_template

from .wording import LABELS, SAFE_NAME, clean, kind_of

logger = logging.getLogger(__name__)

SUBJECT, BODY = "subject.txt", "body.txt"
MOST_FOUND = 400  # names that are looked for beside those of certctl's types


class OwnWords:
    """The templates of one channel's folders."""

    def __init__(self, folders: Sequence[str]) -> None:
        self.folders = tuple(dict.fromkeys(folders))
        self.faults: dict[str, str] = {}  # by template
        self._found: dict[tuple[str, str], tuple[str, Any]] = {}

    def render(self, name: str, type: str, context: Mapping[str, Any]) -> str | None:
        """What the site's template says; None where there is none, or it fails: then `faults` has it."""
        path, template = self._template(name, self._kind(kind_of(type)))
        if template is None:
            return None
        try:
            text = rendered(template, context)
        except Exception as error:  # a site's own template can raise anything
            self._failed(path, error)
            return None
        self.faults.pop(path, None)
        return clean(text)

    def _kind(self, kind: str) -> str:
        """What is looked for: Django remembers every name, so of those that others make up not too many."""
        known = kind in LABELS or (SUBJECT, kind) in self._found
        return kind if known or (SAFE_NAME.fullmatch(kind) and len(self._found) < MOST_FOUND) else ""

    def _candidates(self, name: str, kind: str) -> list[str]:
        places = [[f"{folder}/{kind}", folder] if kind else [folder] for folder in self.folders]
        return [f"notifications/{place}/{name}" for of_folder in places for place in of_folder]

    def _template(self, name: str, kind: str) -> tuple[str, Any]:
        """The first that there is, with its path; None where there is none, or it cannot be compiled."""
        if found := self._found.get((name, kind)):
            return found
        found = ("", None)
        for path in self._candidates(name, kind):
            try:
                found = (path, get_template(path))
            except TemplateDoesNotExist:
                continue
            except Exception as error:
                self._failed(path, error)
                return found
            break
        self._found[name, kind] = found
        return found

    def _failed(self, path: str, error: Exception) -> None:
        fault = f"{type(error).__name__}: {error}"
        if self.faults.get(path) != fault:
            logger.warning("the template %s fails, so the plain words go out: %s", path, fault)
        self.faults[path] = fault


def rendered(template: Any, context: Mapping[str, Any]) -> str:
    """As text: nothing is escaped for HTML here, and each channel escapes what its provider reads."""
    if isinstance(template, DjangoTemplate):
        return str(template.template.render(Context(dict(context), autoescape=False)))
    return str(template.render(dict(context)))
