"""Thousands of hosts behind one listening socket: every address of 127.0.0.0/8 at one port is an endpoint."""

from __future__ import annotations

import socket
import threading
from collections import Counter

from tests.receiver import BACKLOG, HELD, Answer, HttpReceiver, Request

MOST = 65_000  # hosts


class ManyHosts(HttpReceiver):
    """The hosts of 127.1.0.0/16 never answer, those of 127.2.0.0/16 do at once; nobody is at `refusing` ones.

    met  how many requests came, by host
    """

    def __init__(self) -> None:
        super().__init__()
        self._socket.close()
        self._socket = listening_on_loopback()
        self.port = self._socket.getsockname()[1]
        with socket.create_server(("127.0.0.1", 0)) as unused:
            self.nobody: int = unused.getsockname()[1]
        self.met: Counter[str] = Counter()
        self._lock = threading.Lock()
        self.answer = self._answer

    def _answer(self, request: Request) -> Answer:
        host = request.headers["Host"].partition(":")[0]
        with self._lock:
            self.met[host] += 1
        return HELD if host.startswith("127.1.") else Answer()

    def hanging(self, count: int) -> list[str]:
        return [f"http://{address(1, n)}:{self.port}/hook" for n in range(count)]

    def answering(self, count: int) -> list[str]:
        return [f"http://{address(2, n)}:{self.port}/hook" for n in range(count)]

    def refusing(self, count: int) -> list[str]:
        return [f"http://{address(3, n)}:{self.nobody}/hook" for n in range(count)]


def address(net: int, n: int) -> str:
    assert n < MOST
    return f"127.{net}.{n // 250}.{n % 250 + 1}"


def listening_on_loopback() -> socket.socket:
    """On all addresses of the loopback interface, and on no other."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
    listener.bind(("0.0.0.0", 0))
    listener.listen(BACKLOG)
    return listener
