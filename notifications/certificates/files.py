"""Certificates in files: PEM, DER and PKCS#12, one file, a folder of them, or a pattern.

certbot's and acme.sh's live folders are folders: of each certificate `fullchain` is read, and not its parts
beside it. What is read is bounded in bytes, files and certificates.
"""

from __future__ import annotations

import binascii
import hashlib
import os
import re
import stat
import warnings
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from glob import iglob
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import Encoding, pkcs12
from cryptography.x509 import ocsp

from ..text import cut, one_line
from .facts import Facts, Unreadable, facts_of
from .readings import ANYWHERE, Reading, Seen, reading_of
from .targets import LONGEST as LONGEST_PLACE
from .targets import Files
from .verdicts import Verdict, of_time

MOST_BYTES = 1024 * 1024  # of one file
MOST_FILES = 1000  # of one target
MOST_CERTIFICATES = 200  # of one file
MOST_BLOCKS = 10 * MOST_CERTIFICATES  # also of such as are there twice
MOST_ENTRIES = 100_000  # of the folders of one target, whatever they are
DEPTH = 4  # of folders in folders
BLOCK = re.compile(rb"-----BEGIN (?:TRUSTED |X509 )?CERTIFICATE-----")
KEY = re.compile(rb"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----")
BEGIN = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----")
ENDINGS = frozenset({".pem", ".crt", ".cer", ".der", ".p12", ".pfx"})
WHOLE, KEY_OF_WHOLE = "fullchain", "privkey"
WIDE = "-----BEGIN".encode("utf-16-le")
BEHIND = b"\r\n\0 \x1a"  # a DER: what editors and transfers end a file with
JAVA = (b"\xfe\xed\xfe\xed", b"\xce\xce\xce\xce")


class NoCertificate(Unreadable):
    """The file is one, and has none in it: in a folder there may be such."""


def read(files: Files, now: datetime, password_file: str = "") -> Reading:
    """What is in them. One file's fault is its own; it is the target's where nothing could be read."""
    alone = not (files.is_pattern or os.path.isdir(files.path))
    try:
        password = _password(password_file)
        paths = _paths(files, alone, password)
    except Unreadable as fault:
        return Reading(problem=str(fault))
    seen, faults, unread, count = list[Seen](), list[str](), list[str](), 0
    for path in paths:
        count += 1
        if count > MOST_FILES:
            faults.append(f"there are more than {MOST_FILES:,} files, and the rest is not read")
            unread.append("")
            break
        if isinstance(path, Closed):
            faults.append(f"{shown(path.folder)} {path.why}")
            unread.append(_places_in(path.folder))
            continue
        try:
            for one in _seen(path, now, password):
                seen.append(one)
        except NoCertificate as fault:
            faults += [str(fault)] if alone else []
        except Unreadable as fault:
            faults.append(str(fault) if alone else f"{shown(path)} {fault}")
            unread.append("" if alone else place_of(path))
    if not count:
        faults.append("there is no such file" if alone else "there is no file of a certificate's")
    elif not (seen or faults):
        faults.append("there is no certificate in any of the files")
    return reading_of(seen, faults, unread or ANYWHERE)


class Closed(NamedTuple):
    """A folder that cannot be looked into, and why."""

    folder: str
    why: str


def place_of(path: str) -> str:
    """As a sighting has it. What is not shown as it is has a digest, so that no two files are one place."""
    text = shown(path)
    if text == path and len(path) <= LONGEST_PLACE:
        return path
    digest = f"~{hashlib.sha256(os.fsencode(path)).hexdigest()[:8]}"
    return cut(text, LONGEST_PLACE - len(digest)) + digest


def _places_in(folder: str) -> str:
    """What all places in it begin with: nothing, where that is not certain."""
    return folder if shown(folder) == folder and len(folder) < LONGEST_PLACE // 2 else ""


def shown(path: str) -> str:
    """A file's name in one line, whatever bytes it has."""
    return one_line(os.fsencode(path).decode("utf-8", "replace"))


def _seen(path: str, now: datetime, password: bytes | None) -> Iterator[Seen]:
    """Raises Unreadable, also behind the last one that is read."""
    place, found = place_of(path), certificates(_bytes(path), password)
    for facts in _own(found[:MOST_CERTIFICATES]):
        verdicts = [*of_time(facts, now), *map(Verdict, facts.faults)]
        yield Seen(place, facts, tuple(verdicts))
    if len(found) > MOST_CERTIFICATES:
        raise Unreadable(f"has more than {MOST_CERTIFICATES} certificates, and the rest is not read")


def _own(found: Sequence[Facts]) -> Sequence[Facts]:
    """Those that a server would show as its own; of a file with CAs alone, these."""
    return [facts for facts in found if not facts.is_ca] or found


def certificates(data: bytes, password: bytes | None = None) -> list[Facts]:
    """Those in a file's bytes, each once. Raises Unreadable; NoCertificate for files of another kind."""
    ders = dict.fromkeys(_ders(data, password))
    return [facts_of(der) for der in islice(ders, MOST_CERTIFICATES + 1)]


def _ders(data: bytes, password: bytes | None) -> list[bytes]:
    if WIDE in data:  # UTF-16, as Windows' programs write it
        data = data.replace(b"\0", b"")
    if blocks := BLOCK.split(data, MOST_BLOCKS)[1:]:
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
    data = _alone(data)
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
        raise _of_another_kind(data) from error
    except Exception as error:
        raise _of_another_kind(data) from error
    held = [store.cert, *store.additional_certs]
    ders = [one.certificate.public_bytes(Encoding.DER) for one in held if one]
    if not ders:
        raise NoCertificate("is a PKCS#12 file without a certificate")
    return ders


def _alone(data: bytes) -> bytes:
    """DER without the end of a line behind it, which may be its own last byte."""
    many = data[1] & 0x7F if len(data) > 1 and data[1] & 0x80 else 0
    length = int.from_bytes(data[2 : 2 + many] if many else data[1:2]) + 2 + many
    return data if many > 4 or data[length:].strip(BEHIND) else data[:length]


def _of_another_kind(data: bytes) -> Unreadable:
    """There may be keys and requests beside certificates; what is none of them may be a broken one."""
    for load in OTHERS:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                load(data)
        except TypeError:  # a key with a password
            pass
        except Exception:  # noqa: S112  (it is not of this kind)
            continue
        return NoCertificate("has no certificate")
    return Unreadable("is neither a certificate nor a PKCS#12 file")


OTHERS: tuple[Callable[[bytes], object], ...] = (
    lambda data: serialization.load_der_private_key(data, None, unsafe_skip_rsa_key_validation=True),
    serialization.load_der_public_key,
    x509.load_der_x509_csr,
    x509.load_der_x509_crl,
    ocsp.load_der_ocsp_response,
)


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


def _paths(files: Files, alone: bool, password: bytes | None) -> Iterator[str | Closed]:
    """Raises Unreadable where the target's own folder cannot be looked into."""
    if alone:
        return iter([files.path] if os.path.lexists(files.path) else [])
    if files.is_pattern and not os.path.isdir(files.path):
        return _matching(files.path)
    try:
        os.scandir(files.path).close()
    except OSError as error:
        raise Unreadable(_why(error)) from error
    return _in_folder(files.path, password)


def _matching(pattern: str) -> Iterator[str | Closed]:
    """A folder that cannot be read is empty to glob."""
    for folder in iglob(os.path.dirname(pattern), recursive=True):
        if os.path.isdir(folder) and not os.access(folder, os.R_OK | os.X_OK):
            yield Closed(folder, "cannot be read: permission denied")
    yield from (path for path in iglob(pattern, recursive=True) if not os.path.isdir(path))


def _in_folder(folder: str, password: bytes | None) -> Iterator[str | Closed]:
    """Depth first. Folders that are linked to come last: they may be in it by their own names."""
    real, linked, been, room = [(folder, 0)], list[tuple[str, int]](), set[tuple[int, int]](), MOST_ENTRIES
    while real or linked:
        path, depth = real.pop() if real else linked.pop(0)
        try:
            about = os.stat(path)
            if (about.st_dev, about.st_ino) in been:
                continue
            been.add((about.st_dev, about.st_ino))
            with os.scandir(path) as found:
                entries = list(islice(found, room + 1))
        except OSError as error:
            yield Closed(path, _why(error))
            continue
        if len(entries) > room:
            yield Closed(path, f"is not read further: there are more than {MOST_ENTRIES:,} entries")
        held = _Held.of(entries[:room])
        yield from held.closed
        yield from _but_parts(held.files, password)
        room = max(0, room - len(entries))
        if depth < DEPTH:
            real += [(each, depth + 1) for each in reversed(held.folders)]
            linked += [(each, depth + 1) for each in held.linked]


class _Held(NamedTuple):
    """What a folder has: paths in order."""

    files: list[str]
    folders: list[str]
    linked: list[str]  # folders, too
    closed: list[Closed]

    @classmethod
    def of(cls, entries: Sequence[os.DirEntry[str]]) -> _Held:
        """Without what begins with two dots: there Kubernetes keeps what it shows beside it."""
        held = cls([], [], [], [])
        for entry in sorted(entries, key=lambda entry: entry.name):
            likely = Path(entry.name).suffix.lower() in ENDINGS
            if entry.name.startswith(".."):
                continue
            try:
                if entry.is_dir():
                    (held.linked if entry.is_symlink() else held.folders).append(entry.path)
                elif likely:
                    held.files.append(entry.path)
            except OSError as error:
                held.closed.append(Closed(entry.path, _why(error)))
        return held


def _but_parts(paths: Sequence[str], password: bytes | None) -> Iterator[str]:
    """The whole ones of a folder, and what holds anything beside them: of another certificate, or newer."""
    whole = [path for path in paths if Path(path).stem == WHOLE]
    yield from whole
    held = set[str]().union(*(_held(path, password) or () for path in whole))
    for path in paths:
        if path in whole:
            continue
        if not (whole and _is_part(path, held, password)):
            yield path


def _is_part(path: str, held: set[str], password: bytes | None) -> bool:
    """It holds nothing that is not held; nor does the key, which not everybody may read."""
    found = _held(path, password)
    return Path(path).stem == KEY_OF_WHOLE if found is None else found <= held


def _held(path: str, password: bytes | None) -> set[str] | None:
    """The fingerprints of what is in a file; None for one that cannot be read."""
    try:
        return {facts.fingerprint for facts in certificates(_bytes(path), password)}
    except NoCertificate:
        return set()
    except Unreadable:
        return None
