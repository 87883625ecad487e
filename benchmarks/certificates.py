"""TLS endpoints on loopback, looked at by the app and by a bare asyncio loop.

Linux gives a listener all of 127.0.0.0/8: each endpoint is an address and a name of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

AT_ONCE = 100
CERTIFICATES = 1000  # that are different; an endpoint's is that of its number, modulo this


def address(number: int) -> str:
    return f"127.{1 + number // 62_500}.{number // 250 % 250}.{1 + number % 250}"


def name(number: int) -> str:
    return f"host-{number}.example.com"


# The servers, in a process of their own


class Shown(asyncio.Protocol):
    """A server that has nothing to say but its certificate."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def eof_received(self) -> None:
        self.transport.close()


async def serve(folder: Path) -> None:
    """Prints its port, and where the authority's root is; ends with its standard input."""
    from tests.certificates.authority import Authority

    root = Authority()
    below = Authority("Intermediate", root)
    (folder / "root.pem").write_bytes(root.pem)

    @cache
    def context(number: int) -> ssl.SSLContext:
        shared = [name(other) for other in range(number, 10 * CERTIFICATES, CERTIFICATES)]
        return below.issue(*shared).context(folder)

    def choose(tls: ssl.SSLObject, asked: str | None, _: ssl.SSLContext) -> None:
        number = int((asked or name(0)).partition(".")[0].removeprefix("host-"))
        tls.context = context(number % CERTIFICATES)

    for number in range(CERTIFICATES):
        context(number)
    first = below.issue(name(0)).context(folder)
    first.sni_callback = choose
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Shown, "0.0.0.0", 0, ssl=first, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


@contextlib.contextmanager
def endpoints() -> Iterator[tuple[int, str]]:
    """(the port, the root's file)."""
    with tempfile.TemporaryDirectory(prefix="endpoints-") as folder:
        command = [sys.executable, "-m", "benchmarks.certificates", "serve", folder]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline()), f"{folder}/root.pem"
        finally:
            process.stdin.close()
            process.wait()
            process.stdout.close()


# Who looks


def bare(count: int, port: int) -> float:
    """The seconds that a loop of asyncio's own takes which does nothing but to read each certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    async def look(number: int, turn: asyncio.Semaphore) -> int:
        async with turn:
            _, writer = await asyncio.open_connection(
                address(number), port, ssl=context, server_hostname=name(number)
            )
            certificate = writer.get_extra_info("ssl_object").getpeercert(True)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            return len(certificate)

    async def look_at_all() -> None:
        turn = asyncio.Semaphore(AT_ONCE)
        assert all(await asyncio.gather(*(look(number, turn) for number in range(count))))

    began = time.perf_counter()
    asyncio.run(look_at_all())
    return time.perf_counter() - began


def fill(count: int, port: int, root: str) -> None:
    """So many watches that are due, and nothing that was seen."""
    from notifications.certificates.models import Certificate, Watch

    Watch.objects.all().delete()
    Certificate.objects.all().delete()
    Watch.objects.bulk_create(
        Watch(target=f"{name(number)}@{address(number)}:{port}", notify=["Webhook:ops"], ca_file=root)
        for number in range(count)
    )


def due_again() -> None:
    from django.utils import timezone

    from notifications.certificates.models import Watch

    Watch.objects.update(next_check_at=timezone.now())


def looked_at(count: int) -> float:
    """The seconds that one round takes of what is due: looked at, judged, recorded."""
    from notifications.certificates import watcher

    began = time.perf_counter()
    done = watcher.check_due(at_once=AT_ONCE)
    seconds = time.perf_counter() - began
    if (done.watches, done.problems) != (count, 0):
        raise RuntimeError(f"not all were looked at: {done}")
    return seconds


def peak_of(count: int) -> int:
    """The most memory, in kB, of a process that looks at what is due."""
    command = [sys.executable, "-m", "benchmarks.certificates", "look", str(count)]
    answer: dict[str, Any] = json.loads(subprocess.check_output(command))
    return int(answer["peak"])


def main(what: str, argument: str) -> None:
    if what == "serve":
        with contextlib.suppress(ImportError):
            import uvloop

            uvloop.install()
        asyncio.run(serve(Path(argument)))
        return
    from . import worker, world

    world.setup()
    looked_at(int(argument))
    print(json.dumps({"peak": worker.peak()}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
