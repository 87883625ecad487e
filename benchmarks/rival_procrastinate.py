"""The same work as procrastinate jobs, in its asyncio worker: read the row, POST, mark it sent."""

from __future__ import annotations

import asyncio
import os
import sys

import aiohttp
import procrastinate
import psycopg
import psycopg_pool

from .rivals import MARK_SENT, READ, body_of
from .world import IN_FLIGHT

app = procrastinate.App(
    connector=procrastinate.PsycopgConnector(conninfo=os.environ["DATABASE_URL"], min_size=4, max_size=20)
)
http: aiohttp.ClientSession
pool: psycopg_pool.AsyncConnectionPool


@app.task(name="deliver")  # type: ignore[untyped-decorator]
async def deliver(event: str) -> None:
    async with pool.connection() as database:
        row = await (await database.execute(READ, [event])).fetchone()
    assert row is not None
    async with http.post(row[1], data=body_of(row), headers={"Content-Type": "application/json"}) as answer:
        await answer.read()
    if answer.status == 200:
        async with pool.connection() as database:
            await database.execute(MARK_SENT, [event])


async def fill() -> None:
    """Into the queue with every due row."""
    async with (
        app.open_async(),
        await psycopg.AsyncConnection.connect(os.environ["DATABASE_URL"]) as database,
    ):
        row = await (await database.execute("SELECT to_regclass('procrastinate_jobs')")).fetchone()
        if row == (None,):
            await app.schema_manager.apply_schema_async()
        await database.execute("TRUNCATE procrastinate_jobs CASCADE")
        await database.commit()
        due = await database.execute("SELECT id FROM notification_events ORDER BY next_retry_at")
        await deliver.batch_defer_async(*[{"event": event} for (event,) in await due.fetchall()])


async def work() -> None:
    """Until the queue is empty."""
    global http, pool
    options = {"autocommit": True}
    async with (
        psycopg_pool.AsyncConnectionPool(
            os.environ["DATABASE_URL"], min_size=4, max_size=20, kwargs=options
        ) as pool,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
        app.open_async(),
    ):
        await app.run_worker_async(concurrency=IN_FLIGHT, wait=False, listen_notify=False)


if __name__ == "__main__":
    asyncio.run({"fill": fill, "work": work}[sys.argv[1]]())
