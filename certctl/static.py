"""Static files: hashed and compressed after collectstatic, under their plain names before it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from whitenoise.middleware import WhiteNoiseMiddleware
from whitenoise.storage import CompressedManifestStaticFilesStorage


class StaticStorage(CompressedManifestStaticFilesStorage):  # type: ignore[misc]
    """Never fails for want of collectstatic: the admin must open on a machine where nobody ran it."""

    manifest_strict = False

    def stored_name(self, name: str) -> Any:
        try:
            return super().stored_name(name)
        except ValueError:
            return name


class StaticMiddleware(WhiteNoiseMiddleware):  # type: ignore[misc]
    """Serves them. Says nothing when nobody ran collectstatic: the finders stand in for it."""

    def add_files(self, root: str, prefix: str | None = None) -> None:
        if Path(root).is_dir():
            super().add_files(root, prefix)
