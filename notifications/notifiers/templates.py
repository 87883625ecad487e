"""A site's own words for a channel: Django templates, for one type or for all.

`subject.txt` is the first line, `body.txt` the rest. They are looked for in notifications/<folder>/<type>/
and notifications/<folder>/, first of the channel, then of `default`. One that fails is logged, and the plain
words go out.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.template import Context, TemplateDoesNotExist
from django.template.backends.django import Template as DjangoTemplate
from django.template.loader import get_template

from .wording import LABELS, SAFE_NAME, clean, kind_of

logger = logging.getLogger(__name__)

SUBJECT, BODY = "subject.txt", "body.txt"
MOST_KINDS = 200  # types that are remembered; what others write there can be anything


class OwnWords:
    """The templates of one channel's folders."""

    def __init__(self, folders: Sequence[str]) -> None:
        self.folders = tuple(dict.fromkeys(folders))
        self.faults: dict[str, str] = {}  # by template
        self._found: dict[tuple[str, str], tuple[str, Any] | None] = {}

    def render(self, name: str, type: str, context: Mapping[str, Any]) -> str | None:
        """What the site's template says; None where there is none, or it fails: then `faults` has it."""
        kind = kind_of(type)
        key = (name, kind if SAFE_NAME.fullmatch(kind) else "")
        try:
            found = self._found[key] if key in self._found else self._look_up(*key)
        except Exception as error:  # a site's own template can raise anything
            self._failed(self._candidates(*key)[0], error)
            return None
        if found is None:
            return None
        path, template = found
        try:
            text = rendered(template, context)
        except Exception as error:
            self._failed(path, error)
            return None
        self.faults.pop(path, None)
        return clean(text)

    def paths(self) -> Iterator[str]:
        """All that can be looked for, for certctl's own types."""
        for name in (SUBJECT, BODY):
            yield from dict.fromkeys(path for kind in ("", *LABELS) for path in self._candidates(name, kind))

    def _candidates(self, name: str, kind: str) -> list[str]:
        places = [[f"{folder}/{kind}", folder] if kind else [folder] for folder in self.folders]
        return [f"notifications/{place}/{name}" for of_folder in places for place in of_folder]

    def _look_up(self, name: str, kind: str) -> tuple[str, Any] | None:
        found = next(
            ((path, template) for path in self._candidates(name, kind) if (template := existing(path))), None
        )
        if len(self._found) < MOST_KINDS:
            self._found[name, kind] = found
        return found

    def _failed(self, path: str, error: Exception) -> None:
        fault = f"{type(error).__name__}: {error}"
        if self.faults.get(path) != fault:
            logger.warning("the template %s fails, so the plain words go out: %s", path, fault)
        self.faults[path] = fault


def existing(path: str) -> Any:
    """The template, or None where there is none. Raises what is wrong with it."""
    try:
        return get_template(path)
    except TemplateDoesNotExist:
        return None


def rendered(template: Any, context: Mapping[str, Any]) -> str:
    """As text: nothing is escaped for HTML here, and each channel escapes what its provider reads."""
    if isinstance(template, DjangoTemplate):
        return str(template.template.render(Context(dict(context), autoescape=False)))
    return str(template.render(dict(context)))
