"""Variables that nothing reads: most likely a slip of the pen, which would pass unseen."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from difflib import SequenceMatcher
from functools import partial

from notifications.notifiers.base import Notifier

from .environment import variables

# Read by the hooks; by settings.py only where another is not set; by certctl itself, and like ours.
ELSEWHERE = {"CERTCTL_ENV", "CERTCTL_USER", "CERTCTL_HOOK_CHANNEL", "CERTCTL_HOOK_RECIPIENT"}
ELSEWHERE |= {"CERTCTL_DATABASE_URL", "CERTCTL_API_KEY", "CERTCTL_DIGEST_INTERVAL"}
OURS = "CERTCTL_NOTIFICATION_"
LIKE = 0.65  # of 1: URI is so much like URL; no word of certctl's own variables is like one of ours


def known(read: Iterable[str], notifiers: Iterable[type[Notifier]]) -> set[str]:
    """All that something reads: the settings (`read`), the channels, and what stands around them."""
    options = {option.env for notifier in notifiers for option in variables(notifier)}
    return {*read, *options, *ELSEWHERE}


def likely_slips(environment: Mapping[str, str], names: Collection[str]) -> list[str]:
    """A sentence for each variable that is not read, and is ours by its prefix or by what it resembles.

    Others with certctl's prefix are left alone: certctl reads hundreds of its own from the same file.
    """
    found = []
    for name in sorted(environment):
        if not name.startswith("CERTCTL_") or {name, name.removesuffix("_FILE")} & set(names):
            continue
        if likely := [other for other in sorted(names) if is_slip(name, other)]:
            found.append(
                f"{name} is read by nothing: did you mean {max(likely, key=partial(likeness, name))}?"
            )
        elif name.startswith(OURS):
            found.append(f"{name} is read by nothing")
    return found


def likeness(one: str, other: str) -> float:
    return SequenceMatcher(None, one, other).ratio()


def is_slip(name: str, meant: str) -> bool:
    """Whether it is the other one with a word misspelt, or with a word left out."""
    said, words = name.split("_"), meant.split("_")
    if len(said) == len(words):
        [*different] = (pair for pair in zip(said, words, strict=True) if pair[0] != pair[1])
        return len(different) == 1 and likeness(*different[0]) >= LIKE
    return any(said == words[:n] + words[n + 1 :] for n in range(len(words)))
