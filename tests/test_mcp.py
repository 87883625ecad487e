"""The MCP server in a process of its own, spoken to by the SDK's client: over stdio and over HTTP."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from argparse import ArgumentTypeError
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import anyio
import httpx2
import pytest
from django.core.management import CommandError, call_command
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

import notifications
from notifications.api.models import ApiToken
from notifications.management.commands.mcp_server import address
from notifications.models import NotificationEvent, Requeue
from notifications.reporting.contract import EVENT as EVENT_FIELDS
from tests import factories
from tests.api.support import make_user
from tests.assistant import Speak, Talk, call, calls, stdio

__all__ = ["stdio"]

LISTING, DETAIL, STATS = (
    "certctl_list_notifications",
    "certctl_get_notification",
    "certctl_notification_stats",
)
OF_CERTIFICATES = ("certctl_list_certificates", "certctl_get_certificate", "certctl_list_watches")
LOOKING = (LISTING, DETAIL, STATS, *OF_CERTIFICATES)
READ, REQUEUE = "certctl_mark_notification_read", "certctl_requeue_notification"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def http_server(
    process_environment: dict[str, str], certctl_command: list[str], tmp_path: Path
) -> Iterator[str]:
    at = f"127.0.0.1:{free_port()}"
    log = tmp_path / "http.log"
    command = [*certctl_command, "mcp_server", "--http", at, "--allow-operate"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=process_environment, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + 30
        while "running on" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield f"http://{at}/mcp"
    finally:
        process.terminate()
        process.wait(timeout=30)


@asynccontextmanager
async def http_client(url: str, secret: str) -> AsyncIterator[Client]:
    headers = {"Authorization": f"Bearer {secret}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=30) as http,
        Client(streamable_http_client(url, http_client=http)) as client,
    ):
        yield client


def over_http(url: str, secret: str, talk: Talk) -> Any:
    async def session() -> Any:
        async with http_client(url, secret) as client:
            return await talk(client)

    return anyio.run(session)


# --- stdio ---------------------------------------------------------------------------------------


def test_the_tools_of_the_contract_say_what_they_do(stdio: Speak) -> None:
    async def talk(client: Client) -> Any:
        return (await client.list_tools()).tools

    tools = {tool.name: tool for tool in stdio(talk, "--allow-operate")}
    assert set(tools) == {*LOOKING, READ, REQUEUE}
    for tool in tools.values():
        assert tool.output_schema
        assert tool.annotations.read_only_hint is (True if tool.name in LOOKING else None)
    assert "SENDS IT" in tools[REQUEUE].description
    assert tools[REQUEUE].description.startswith("Ask the person first")
    assert set(tools[LISTING].input_schema["properties"]) == {"status", "page", "per_page", "order"}
    assert set(tools[REQUEUE].input_schema["properties"]) == {"id", "renewed"}


def test_reading_needs_no_leave(stdio: Speak) -> None:
    event = factories.dead(id="n1")
    factories.attempt(event, number=5, status_code=503)
    factories.sent()
    page, detail, missing, nul, counts = stdio(
        calls(
            (LISTING, {"status": "dead", "page": 1, "per_page": 5}),
            (DETAIL, {"id": "n1"}),
            (DETAIL, {"id": "nope"}),
            (DETAIL, {"id": "a\x00"}),
            (STATS, {}),
        )
    )
    assert (page["total"], page["page"], page["per_page"]) == (1, 1, 5)
    assert list(page["data"][0]) == list(EVENT_FIELDS)
    assert page["data"][0]["created_at"].endswith("Z")
    assert [attempt["status_code"] for attempt in detail["attempts"]] == [503]
    assert "no notification" in missing
    assert "no notification" in nul
    assert (counts["notifications_dead"], counts["notifications_sent"]) == (1, 1)


def test_changing_is_refused_unless_the_server_allows_it(stdio: Speak) -> None:
    factories.dead(id="n1")
    for answer in stdio(calls((READ, {"id": "n1"}), (REQUEUE, {"id": "n1"}))):
        assert "--allow-operate" in answer
    assert NotificationEvent.objects.get().status == "dead"


def test_operating(stdio: Speak) -> None:
    factories.dead(id="n1")
    factories.sent(id="n2")
    requeued, refused, read, unread = stdio(
        calls(
            (REQUEUE, {"id": "n1"}),
            (REQUEUE, {"id": "n2"}),
            (READ, {"id": "n2"}),
            (READ, {"id": "n1"}),
        ),
        "--allow-operate",
    )
    assert requeued == {"id": "n1", "status": "requeued"}
    assert "it was delivered" in refused
    assert read == {"id": "n2", "status": "marked_as_read"}
    assert "not delivered yet" in unread
    record = Requeue.objects.get()
    assert (record.notification_id, record.via) == ("n1", "mcp")
    assert record.by


def test_wrong_arguments_are_told(stdio: Speak) -> None:
    wrong = [{"status": "lost"}, {"per_page": 101}, {"page": 0}]
    for arguments, answer in zip(wrong, stdio(calls(*((LISTING, a) for a in wrong))), strict=True):
        assert next(iter(arguments)) in answer


def test_many_calls_at_once(stdio: Speak) -> None:
    factories.dead(id="n1")

    async def talk(client: Client) -> list[Any]:
        answers: list[Any] = []

        async def one() -> None:
            answers.append(await call(client, REQUEUE, id="n1"))

        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(one)
        return answers

    answers = stdio(talk, "--allow-operate")
    assert answers.count({"id": "n1", "status": "requeued"}) == 1
    assert sum("it is pending" in str(answer) for answer in answers) == 19


# --- HTTP ----------------------------------------------------------------------------------------


def secret_of(name: str, *roles: str) -> str:
    return ApiToken.objects.issue(make_user(name, *roles), "mcp")[1]


def test_over_http_the_tokens_user_decides(http_server: str) -> None:
    factories.dead(id="n1")
    every_tool = calls((LISTING, {}), (STATS, {}), (READ, {"id": "n1"}), (REQUEUE, {"id": "n1"}))
    page, counts, read, requeue = over_http(http_server, secret_of("vera", "viewer"), every_tool)
    assert page["total"] == counts["notifications_dead"] == 1
    assert "vera lacks the permission notifications.change_notificationevent" in read
    assert "vera lacks the permission notifications.requeue_notificationevent" in requeue
    page, _, _, requeue = over_http(http_server, secret_of("rob", "requeuer"), every_tool)
    assert "rob lacks the permission notifications.view_notificationevent" in page
    assert requeue["status"] == "requeued"
    assert Requeue.objects.get().by == "rob"


def test_over_http_a_token_is_needed(http_server: str) -> None:
    user = make_user("gone", "superuser")
    revoked, secret = ApiToken.objects.issue(user, "mcp")
    revoked.delete()
    for headers in ({}, {"Authorization": f"Bearer {secret}"}, {"Authorization": "Bearer "}):
        request = Request(http_server, b"{}", headers | {"Content-Type": "application/json"}, method="POST")
        with pytest.raises(HTTPError) as caught:
            urlopen(request, timeout=30)
        with caught.value as answer:
            assert answer.code == 401
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_over_http_another_sites_pages_are_refused(http_server: str) -> None:
    secret = secret_of("vera", "viewer")
    for headers, status in (({"Host": "evil.example"}, 421), ({"Origin": "http://evil.example"}, 403)):
        everything = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json", **headers}
        with pytest.raises(HTTPError) as caught:
            urlopen(Request(http_server, b"{}", everything, method="POST"), timeout=30)
        with caught.value as answer:
            assert answer.code == status


@pytest.mark.parametrize("text", ["8765", "localhost", ":80", "localhost:0", "localhost:99999", "[::1]:x"])
def test_a_wrong_address_is_refused(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="is not HOST:PORT"):
        address(text)


def test_addresses() -> None:
    assert address("127.0.0.1:8765") == ("127.0.0.1", 8765)
    assert address("[::1]:8765") == ("::1", 8765)


def test_without_the_extra_the_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(notifications, "mcp", raising=False)  # where another test has imported it
    monkeypatch.setitem(sys.modules, "notifications.mcp", None)
    with pytest.raises(CommandError, match=r"certctl-notifications\[mcp\]"):
        call_command("mcp_server")
