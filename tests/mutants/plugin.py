"""Runs the chosen tests once as they are, then once for each mutant, in a fork that is changed in memory.

A pytest plugin (`-p tests.mutants.plugin`); tests.mutants.__main__ says in MUTANTS_ORDER what to do. Django,
the tests and the database are made once. A fork swaps the code of one function and runs only the tests that
run the changed lines, the quickest first and those that have noticed others of that function, until one
fails. No file is changed: an interrupted run leaves nothing behind.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any, NoReturn

import pytest
from _pytest.runner import runtestprotocol
from django.core.management import call_command
from django.db import connections
from hypothesis import Phase
from hypothesis import settings as examples

ORDER = json.loads(Path(os.environ["MUTANTS_ORDER"]).read_text())
# It is only asked whether a test fails, not by which smallest example.
examples.register_profile("mutants", phases=(Phase.explicit, Phase.generate))
examples.load_profile("mutants")

LEAST_SECONDS, TIMES = 20, 5  # a test of a mutant may take so long, or so many times as long as unchanged


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool:
    if session.testsfailed:
        pytest.exit("the tests cannot be collected", returncode=1)
    module = importlib.import_module(ORDER["module"])
    ran, seconds = run_unchanged(session, str(module.__file__))
    deadly: dict[str, Counter[Any]] = defaultdict(Counter)
    connections.close_all()
    session.config.option.tbstyle = "native"  # which is quick
    gc.collect()
    gc.freeze()
    with Path(ORDER["results"]).open("a") as results:
        for mutant in ORDER["mutants"]:
            if time.time() > ORDER["until"]:
                break
            first, last = mutant["lines"]
            items = [item for item in session.items if ran[item].intersection(range(first, last + 1))]
            noticed = deadly[mutant["function"]]
            items.sort(key=lambda item: seconds[item] / (1 + noticed[item]))
            verdict, killer = judge(session, module, mutant, items, seconds) if items else ("no test", None)
            noticed.update([killer] if killer else [])
            kept = {name: mutant[name] for name in ("function", "version", "before", "after")}
            results.write(json.dumps({"verdict": verdict, **kept}) + "\n")
            results.flush()
    return True


def run_unchanged(session: pytest.Session, file: str) -> tuple[dict[Any, set[int]], dict[Any, float]]:
    """Which lines of the file each test runs, and how long it takes. The tests must pass."""
    ran: dict[Any, set[int]] = {}
    seconds: dict[Any, float] = {}
    for item in session.items:
        lines = ran[item] = set[int]()

        def of_line(frame: FrameType, event: str, _: object, lines: set[int] = lines) -> Any:
            lines.add(frame.f_lineno)
            return of_line

        def of_call(frame: FrameType, event: str, _: object, of_line: Any = of_line) -> Any:
            return of_line if frame.f_code.co_filename == file else None

        threading.settrace(of_call)
        sys.settrace(of_call)
        begin = time.monotonic()
        failure = failure_of(session, item)
        seconds[item] = time.monotonic() - begin
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]
        if failure:
            pytest.exit(f"without any mutant: {failure}", returncode=1)
    return ran, seconds


def failure_of(session: pytest.Session, item: pytest.Item) -> str:
    """Run one test: why it failed, or "". What is made once for the session, the database say, stays."""
    reports = runtestprotocol(item, log=False, nextitem=session)  # type: ignore[arg-type]
    return next((f"{item.nodeid}: {report.longreprtext[-1500:]}" for report in reports if report.failed), "")


def judge(
    session: pytest.Session,
    module: ModuleType,
    mutant: dict[str, Any],
    items: list[Any],
    seconds: dict[Any, float],
) -> tuple[str, Any]:
    """(what became of the mutant, the test that noticed)."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try_out(session, module, mutant, items, writer)
    os.close(writer)
    said = [b""]

    def patience() -> float:
        return max(LEAST_SECONDS, TIMES * seconds[items[min(len(said), len(items)) - 1]])

    while select.select([reader], [], [], patience())[0]:
        if not (words := os.read(reader, 1000)):
            break
        said = (b"\n".join(said) + words).split(b"\n")
    else:
        os.killpg(child, signal.SIGKILL)
        said = [b"timeout"]
    os.close(reader)
    os.waitpid(child, 0)
    verdict = said[-1].decode() or "killed"  # no word: it ended its own process
    if verdict == "timeout":
        clean_up(session)
    return verdict, items[len(said) - 1] if verdict == "killed" else None


def try_out(
    session: pytest.Session, module: ModuleType, mutant: dict[str, Any], items: list[Any], writer: int
) -> NoReturn:
    """In the fork: an empty line after each test that passed, and then the verdict."""
    try:
        os.setsid()
        swap(module, mutant)
        for item in items:
            if failure_of(session, item):
                os.write(writer, b"killed")
                break
            os.write(writer, b"\n")
        else:
            os.write(writer, b"survived")
    except LookupError:
        os.write(writer, b"not tried")
    finally:
        os._exit(0)


def clean_up(session: pytest.Session) -> None:
    """What a test that was ended in its middle left in the database."""
    if any(item.get_closest_marker("django_db") for item in session.items):
        blocker = session.config.stash[BLOCKER]
        with blocker.unblock():
            call_command("flush", verbosity=0, interactive=False)
            connections.close_all()


def every_code(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from every_code(constant)


def swap(module: ModuleType, mutant: dict[str, Any]) -> None:
    """Give the function the mutant's code. Raises LookupError where that is not possible."""
    assert module.__file__
    name = mutant["function"]
    mutated = compile(mutant["source"], module.__file__, "exec")
    code = next((code for code in every_code(mutated) if code.co_qualname == name), None)
    function = function_named(module, name)
    if code is None or code.co_freevars != function.__code__.co_freevars:
        raise LookupError(name)
    function.__code__ = code


def function_named(module: ModuleType, name: str) -> Any:
    """The function itself, beneath what decorators made of it."""
    *owners, last = name.split(".")
    owner: Any = module
    for part in owners:
        owner = getattr(owner, part)
    found = vars(owner)[last]
    for inner in ("fget", "func", "__func__"):
        found = getattr(found, inner, None) or found
    while hasattr(found, "__wrapped__"):
        found = found.__wrapped__
    if not hasattr(found, "__code__"):
        raise LookupError(name)
    return found


BLOCKER = pytest.StashKey[Any]()


@pytest.fixture(autouse=True, scope="session")
def _remember_blocker(request: pytest.FixtureRequest, django_db_blocker: Any) -> None:
    request.config.stash[BLOCKER] = django_db_blocker
