"""An assistant's side: the SDK's client, and a server of its own over stdio."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

Speak = Callable[..., Any]
Talk = Callable[[Client], Awaitable[Any]]


async def call(client: Client, tool: str, **arguments: Any) -> Any:
    """What the tool answers; its error's text where it refuses."""
    result = await client.call_tool(tool, arguments)
    return result.content[0].text if result.is_error else result.structured_content  # type: ignore[union-attr]


def calls(*names_and_arguments: tuple[str, dict[str, Any]]) -> Talk:
    async def talk(client: Client) -> list[Any]:
        return [await call(client, name, **arguments) for name, arguments in names_and_arguments]

    return talk


@pytest.fixture
def stdio(process_environment: dict[str, str], certctl_command: list[str], tmp_path: Path) -> Speak:
    """Run `talk` with a client of a new process; answers what it answers."""

    def speak(talk: Talk, *arguments: str) -> Any:
        command, *rest = certctl_command
        server = StdioServerParameters(
            command=command, args=[*rest, "mcp_server", *arguments], env=process_environment, cwd=tmp_path
        )

        async def session() -> Any:
            with (tmp_path / "stderr").open("w") as errors:
                async with Client(stdio_client(server, errlog=errors)) as client:
                    return await talk(client)

        return anyio.run(session)

    return speak
