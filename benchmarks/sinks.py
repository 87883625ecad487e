"""Receivers that answer POSTs: a small C program, or asyncio in a process of its own without a compiler."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

SOURCE = Path(__file__).with_name("sink.c")
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"
NEVER = -1


@contextlib.contextmanager
def running(*delays: int) -> Iterator[list[str]]:
    """One URL for each delay in milliseconds; NEVER takes requests and does not answer them."""
    with tempfile.TemporaryDirectory(prefix="sink-") as folder:
        arguments = [*command(Path(folder)), *map(str, delays)]
        process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield [f"http://127.0.0.1:{port}/hooks/alerts" for port in process.stdout.readline().split()]
        finally:
            process.stdin.close()
            process.wait()
            process.stdout.close()


def compiler() -> str | None:
    return next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)


def command(folder: Path) -> list[str]:
    found = compiler()
    if found is None:
        return [sys.executable, "-m", "benchmarks.sinks"]
    program = folder / "sink"
    subprocess.run([found, "-O2", "-o", str(program), str(SOURCE)], check=True)
    return [str(program)]


class Receiver(asyncio.Protocol):
    """One connection; enough HTTP for one POST at a time."""

    def __init__(self, delay: float) -> None:
        self.delay = delay
        self.data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data
        while rest := self._whole():
            self.data = self.data[rest:]
            if self.delay == 0:
                self.transport.write(ANSWER)
            elif self.delay > 0:
                asyncio.get_running_loop().call_later(self.delay, self._late)

    def _late(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(ANSWER)

    def _whole(self) -> int:
        """The bytes of the first whole request, 0 when it is not whole yet."""
        head, end, _ = self.data.partition(b"\r\n\r\n")
        if not end:
            return 0
        _, _, length = head.lower().partition(b"\r\ncontent-length:")
        whole = len(head) + 4 + int(length.split(b"\r\n")[0] or 0)
        return whole if whole <= len(self.data) else 0


async def serve(delays: Sequence[int]) -> None:
    loop, servers = asyncio.get_running_loop(), []
    for delay in delays:
        seconds = delay / 1000 if delay >= 0 else NEVER
        servers.append(await loop.create_server(partial(Receiver, seconds), "127.0.0.1", 0, backlog=4096))
    print(*(server.sockets[0].getsockname()[1] for server in servers), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    with contextlib.suppress(ImportError):
        import uvloop

        uvloop.install()
    asyncio.run(serve([int(delay) for delay in sys.argv[1:]]))
