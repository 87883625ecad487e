"""The same work as Celery tasks: read the row, POST, mark it sent."""

from __future__ import annotations

import os
import threading
from typing import Any

import psycopg
import urllib3
from celery import Celery

from .rivals import MARK_SENT, READ, body_of

app = Celery("rival", broker=os.environ.get("RIVAL_BROKER", ""))
app.conf.update(
    task_ignore_result=True,
    worker_prefetch_multiplier=64,
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
    task_store_errors_even_if_ignored=False,
)
local = threading.local()


def connection() -> psycopg.Connection[Any]:
    if not hasattr(local, "connection"):
        local.connection = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)
        local.http = urllib3.PoolManager(maxsize=4)
    made: psycopg.Connection[Any] = local.connection
    return made


@app.task  # type: ignore[untyped-decorator]
def deliver(event: str) -> None:
    database = connection()
    row = database.execute(READ, [event]).fetchone()
    assert row is not None
    answer = local.http.request(
        "POST", row[1], body=body_of(row), headers={"Content-Type": "application/json"}
    )
    if answer.status == 200:
        database.execute(MARK_SENT, [event])
