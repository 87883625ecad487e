"""A disk that can be filled to the last byte without hurting anybody else."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests import postgres

SIZE = "24m"
PIECE = bytes(4096)


@dataclass(frozen=True)
class Disk:
    name: str
    path: Path

    @contextmanager
    def full(self) -> Iterator[None]:
        """A file has taken all the room, until the end of the block."""
        ballast = self.path / "ballast"
        with ballast.open("wb", buffering=0) as file:
            while True:
                try:
                    file.write(PIECE)
                except OSError:
                    break
        try:
            yield
        finally:
            ballast.unlink()


@contextmanager
def small_disk(server: postgres.Server, folder: Path) -> Iterator[Disk]:
    path = server.folder / "small"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(path)], check=True)
    try:
        owner = (server.folder / "data").stat()
        os.chown(path, owner.st_uid, owner.st_gid)
        yield Disk("small", path)
    finally:
        subprocess.run(["umount", str(path)], check=True)
        path.rmdir()
