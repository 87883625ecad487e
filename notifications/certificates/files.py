"""Certificates in files: PEM, DER and PKCS#12, one file, a folder of them, or a pattern.

certbot's and acme.sh's live folders are folders: of each certificate `fullchain` is read, and not the parts
beside it. What is read is bounded in bytes, files and certificates.
"""

from __future__ import annotations

import binascii
import os
import re
import stat
import warnings
from collections.abc import Iterator, Sequence
from datetime import datetime
from glob import iglob
from itertools import islice
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, pkcs12

from ..text import cut, one_line
from .facts import Facts, Unreadable, facts_of
from .readings import Reading, Seen, reading_of
from .targets import Files
from .verdicts import Verdict, of_time

MOST_BYTES = 1024 * 1024  # of one file
MOST_FILES = 1000  # of one target
MOST_CERTIFICATES = 200  # of one file
DEPTH = 4  # of folders in folders
BLOCK = re.compile(rb"-----BEGIN (?:TRUSTED |X509 )?CERTIFICATE-----")
KEY = re.compile(rb"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----")
BEGIN = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----")
ENDINGS = frozenset({".pem", ".crt", ".cer", ".der", ".p12", ".pfx"})
WHOLE = "fullchain"
JAVA = (b"\xfe\xed\xfe\xed", b"\xce\xce\xce\xce")


class NoCertificate(Unreadable):
    """The file is one, and has none in it: in a folder there may be such."""


def read(files: Files, now: datetime, password_file: str = "") -> Reading:
    """What is in them. One file's fault is its own; it is the target's where nothing could be read."""
    seen, faults, found = list[Seen](), list[str](), False
    alone = not (files.is_pattern or os.path.isdir(files.path))
    try:
        password = _password(password_file)
        paths = _paths(files, alone)
    except Unreadable as fault:
        return Reading(problem=str(fault))
    for path in islice(paths, MOST_FILES):
        found = True
        try:
            seen += _seen(path, now, password)
        except NoCertificate as fault:
            faults += [str(fault)] if alone else []
        except Unreadable as fault:
            faults.append(str(fault) if alone else f"{shown(path)} {fault}")
    if not found:
        faults.append("there is no such file" if alone else "there is no file of a certificate's")
    elif not (seen or faults):
        faults.append("there is no certificate in any of the files")
    return reading_of(seen, faults)


def shown(path: str) -> str:
    """A file's name in one line, whatever bytes it has."""
    return one_line(os.fsencode(path).decode("utf-8", "replace"))


def _seen(path: str, now: datetime, password: bytes | None) -> Iterator[Seen]:
    place = cut(shown(path), 500)
    for facts in _own(certificates(_bytes(path), password)):
        verdicts = [*of_time(facts, now), *map(Verdict, facts.faults)]
        yield Seen(place, facts, tuple(verdicts))


def _own(found: Sequence[Facts]) -> Sequence[Facts]:
    """Those that a server would show as its own; of a file with CAs alone, these."""
    return [facts for facts in found if not facts.is_ca] or found


def certificates(data: bytes, password: bytes | None = None) -> list[Facts]:
    """Those in a file's bytes, each once. Raises Unreadable; NoCertificate for another kind of file."""
    ders = _ders(data, password)
    return [facts_of(der) for der in dict.fromkeys(ders[:MOST_CERTIFICATES])]


def _ders(data: bytes, password: bytes | None) -> list[bytes]:
    if blocks := BLOCK.split(data, MOST_CERTIFICATES)[1:]:
        return [_from_base64(block.partition(b"-----END")[0]) for block in blocks]
    if found := BEGIN.search(data):
        if KEY.search(data):
            raise NoCertificate("has a private key and no certificate")
        raise NoCertificate(f"has no certificate but {cut(found[1].decode().lower(), 40)}")
    if data.startswith(JAVA):
        raise Unreadable(
            "is a Java keystore of the old kind: keytool -importkeystore -deststoretype pkcs12 converts it"
        )
    if not data.startswith(b"\x30"):
        raise NoCertificate("has no certificate")
    try:
        facts_of(data)
    except Unreadable:
        return _from_pkcs12(data, password)
    return [data]


def _from_base64(block: bytes) -> bytes:
    try:
        return binascii.a2b_base64(b"".join(block.split()), strict_mode=True)
    except binascii.Error as error:
        raise Unreadable("has a certificate that is not base64") from error


def _from_pkcs12(data: bytes, password: bytes | None) -> list[bytes]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            store = pkcs12.load_pkcs12(data, password)
    except ValueError as error:
        if "password" in str(error).lower():
            why = "the password is wrong" if password else "it needs a password (--password-file)"
            raise Unreadable(f"is a PKCS#12 file that cannot be opened: {why}") from error
        raise NoCertificate("is neither a certificate nor a PKCS#12 file") from error
    except Exception as error:
        raise NoCertificate("is neither a certificate nor a PKCS#12 file") from error
    held = [store.cert, *store.additional_certs]
    ders = [one.certificate.public_bytes(Encoding.DER) for one in held if one]
    if not ders:
        raise NoCertificate("is a PKCS#12 file without a certificate")
    return ders


def _bytes(path: str) -> bytes:
    """Raises Unreadable for what is no file, may not be read, or is too long to be looked at."""
    try:
        # A pipe must not wait for its writer.
        number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
        with open(number, "rb") as file:
            if not stat.S_ISREG(os.fstat(number).st_mode):
                raise Unreadable("is no file")
            data = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise Unreadable(_why(error)) from error
    if len(data) > MOST_BYTES:
        raise Unreadable("is longer than 1 MiB: no certificate is")
    return data


def _why(error: Exception) -> str:
    said = (getattr(error, "strerror", None) or "its name is none").lower()
    return f"cannot be read: {said}"


def _password(path: str) -> bytes | None:
    """The first line of the file that holds it."""
    if not path:
        return None
    try:
        return _bytes(path).splitlines()[0]
    except IndexError:
        raise Unreadable("the password's file is empty") from None
    except Unreadable as fault:
        raise Unreadable(f"the password's file {fault}") from fault


def _paths(files: Files, alone: bool) -> Iterator[str]:
    """Raises Unreadable where a folder may not be looked into."""
    if alone:
        return iter([files.path] if os.path.lexists(files.path) else [])
    if files.is_pattern and not os.path.isdir(files.path):
        return (path for path in iglob(files.path, recursive=True) if not os.path.isdir(path))
    try:
        os.scandir(files.path).close()
    except OSError as error:
        raise Unreadable(_why(error)) from error
    return _in_folder(files.path)


def _in_folder(folder: str, depth: int = 0) -> Iterator[str]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)[: 10 * MOST_FILES]
    except OSError:
        return
    likely = [entry for entry in entries if Path(entry.name).suffix.lower() in ENDINGS]
    likely = [entry for entry in likely if not entry.is_dir()]
    whole = [entry for entry in likely if Path(entry.name).stem == WHOLE]
    yield from (entry.path for entry in whole or likely)
    for entry in entries:
        if depth < DEPTH and entry.is_dir(follow_symlinks=False):
            yield from _in_folder(entry.path, depth + 1)
