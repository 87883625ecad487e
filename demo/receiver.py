"""The demo's other side: a webhook endpoint and a mail server on loopback that can be down, and a pager."""

from __future__ import annotations

import json
import socket
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

PAGER = "/v2/enqueue"  # where PagerDuty takes events


class Receiver:
    """Refuses everything until `up` is set; counts what it accepted, by notification id.

    pages  what the pager, which is never down, was told of each page last: trigger or resolve
    """

    def __init__(self) -> None:
        self.up = False
        self.accepted: Counter[str] = Counter()
        self.refused = 0
        self.pages: dict[str, str] = {}
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._smtp = Controller(MailHandler(self), hostname="127.0.0.1", port=free_port())
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        self._smtp.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"

    @property
    def smtp_port(self) -> int:
        return int(self._smtp.port)

    def take(self, notification_id: str) -> bool:
        """Whether it is accepted."""
        with self._lock:
            if self.up:
                self.accepted[notification_id] += 1
            else:
                self.refused += 1
            return self.up

    def close(self) -> None:
        self._http.shutdown()
        self._smtp.stop()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.path == PAGER:
                    receiver.pages[told["dedup_key"]] = told["event_action"]
                    return self._answer(202, b'{"status": "success"}')
                if receiver.take(told["data"]["id"]):
                    return self._answer(200, b"ok")
                return self._answer(503, b"the on-call gateway is down for maintenance")

            def _answer(self, status: int, answer: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *args: Any) -> None:
                pass

        return Handler


class MailHandler:
    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        content = envelope.content if isinstance(envelope.content, bytes) else b""
        header = next(line for line in content.splitlines() if line.lower().startswith(b"message-id:"))
        notification_id = header.split(b"<")[1].split(b"@")[0].decode()
        return "250 taken" if self.receiver.take(notification_id) else "451 mailbox store is down, try later"


def free_port(preferred: int = 0) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", preferred))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
