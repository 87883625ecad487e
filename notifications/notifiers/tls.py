"""What a channel trusts and shows over TLS, of HTTP and of mail: files that may be replaced at any time."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..exceptions import Reason, TransientError

ADVICE = "correct it; what waits goes out by itself"


class TlsFiles:
    """The files that TLS_CA, TLS_CERT and TLS_KEY name.

    They are read when a connection is made, and again when one was replaced, as short-lived certificates are.
    """

    def __init__(self, authority: str, certificate: str, key: str) -> None:
        self.files = {"TLS_CA": authority, "TLS_CERT": certificate, "TLS_KEY": key}
        self._made: dict[bool, tuple[Any, ssl.SSLContext]] = {}

    @classmethod
    def made_of(cls, options: Mapping[str, Any]) -> TlsFiles | None:
        """None where no file is named."""
        files = [str(options.get(name) or "").strip() for name in ("TLS_CA", "TLS_CERT", "TLS_KEY")]
        return cls(*files) if any(files) else None

    def context(self, *, own: bool = True) -> ssl.SSLContext:
        """own: for a server of the site's choice; no other is shown the certificate.

        Raises TransientError, for which all rows of the channel wait, where a file cannot be used.
        """
        try:
            stamp = [(found.st_mtime_ns, found.st_ino, found.st_size) for found in self._stats()]
        except OSError as error:
            raise self._unusable(error) from error
        before, made = self._made.get(own, (None, None))
        if made is None or stamp != before:
            made = self._read(own)
            self._made[own] = stamp, made
        return made

    def _stats(self) -> list[os.stat_result]:
        return [Path(path).stat() for path in self.files.values() if path]

    def _read(self, own: bool) -> ssl.SSLContext:
        context = ssl.create_default_context()
        try:
            if authority := self.files["TLS_CA"]:
                context.load_verify_locations(cafile=authority)
            if own and (certificate := self.files["TLS_CERT"]):
                context.load_cert_chain(certificate, self.files["TLS_KEY"] or None, password=_nobody_to_ask)
        except (OSError, ValueError) as error:
            raise self._unusable(error) from error
        return context

    def _unusable(self, error: Exception) -> TransientError:
        for name, path in self.files.items():
            if path and (why := _fault(path)):
                return TransientError(f"{name} {path} {why}", reason=Reason.AUTH, advice=ADVICE)
        if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
            text = f"TLS_KEY is not the key of TLS_CERT {self.files['TLS_CERT']}"
        else:
            named = " and ".join(f"{name} {path}" for name, path in self.files.items() if path)
            text = f"{named} cannot be used: {_words(error)}"
        return TransientError(text, reason=Reason.AUTH, advice=ADVICE)


def _nobody_to_ask() -> str:
    """Without this, OpenSSL would ask for an encrypted key's password on the terminal."""
    raise ValueError("the key is encrypted")


def _fault(path: str) -> str:
    try:
        text = Path(path).read_bytes()
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return "" if b"-----BEGIN " in text else "holds nothing in PEM"


def _words(error: Exception) -> str:
    return str(getattr(error, "reason", None) or getattr(error, "strerror", None) or error)
