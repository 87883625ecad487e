"""Runs the chosen tests once as they are, then once for each mutant, in a fork that is changed in memory.

A pytest plugin (`-p tests.mutants.plugin`); tests.mutants.__main__ says in MUTANTS_ORDER what to do. Django,
the tests and the database are made once. A fork swaps the code of one function and runs only the tests that
enter it, the quickest first, until one fails. No file is changed: an interrupted run leaves nothing behind.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any

import pytest
from _pytest.runner import runtestprotocol
from django.core.management import call_command
from django.db import connections

ORDER = json.loads(Path(os.environ["MUTANTS_ORDER"]).read_text())
LEAST_SECONDS, TIMES = 20, 5  # a mutant may take so long, and so many times as long as its tests do unchanged


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool:
    if session.testsfailed:
        pytest.exit("the tests cannot be collected", returncode=1)
    module = importlib.import_module(ORDER["module"])
    entered, seconds = run_unchanged(session, set(codes_of(module)))
    connections.close_all()
    with Path(ORDER["results"]).open("a") as results:
        for mutant in ORDER["mutants"]:
            if time.time() > ORDER["until"]:
                break
            items = [item for item in session.items if mutant["function"] in entered[item]]
            items.sort(key=seconds.__getitem__)
            patience = max(LEAST_SECONDS, TIMES * sum(seconds[item] for item in items))
            verdict = judge(session, module, mutant, items, patience) if items else "no test"
            kept = {name: mutant[name] for name in ("function", "version", "before", "after")}
            results.write(json.dumps({"verdict": verdict, **kept}) + "\n")
            results.flush()
    return True


def codes_of(module: ModuleType) -> Iterator[CodeType]:
    """The code of every function that the module's file defines."""
    assert module.__file__
    yield from every_code(compile(Path(module.__file__).read_text(), module.__file__, "exec"))


def every_code(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from every_code(constant)


def run_unchanged(
    session: pytest.Session, codes: set[CodeType]
) -> tuple[dict[Any, set[str]], dict[Any, float]]:
    """Which functions each test enters, and how long it takes. The tests must pass."""
    names = {(code.co_filename, code.co_firstlineno, code.co_name): code.co_qualname for code in codes}
    entered: dict[Any, set[str]] = {}
    seconds: dict[Any, float] = {}
    for item in session.items:
        found = entered[item] = set[str]()

        def watch(frame: FrameType, event: str, _: object, found: set[str] = found) -> None:
            code = frame.f_code
            if event == "call" and (code.co_filename, code.co_firstlineno, code.co_name) in names:
                found.add(code.co_qualname)

        threading.setprofile(watch)
        sys.setprofile(watch)
        begin = time.monotonic()
        failure = failure_of(session, item)
        seconds[item] = time.monotonic() - begin
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
        if failure:
            pytest.exit(f"without any mutant: {failure}", returncode=1)
    return entered, seconds


def failure_of(session: pytest.Session, item: pytest.Item) -> str:
    """Run one test: why it failed, or "". What is made once for the session, the database say, stays."""
    reports = runtestprotocol(item, log=False, nextitem=session)  # type: ignore[arg-type]
    return next((f"{item.nodeid}: {report.longreprtext[-1500:]}" for report in reports if report.failed), "")


def judge(
    session: pytest.Session, module: ModuleType, mutant: dict[str, str], items: list[Any], patience: float
) -> str:
    child = os.fork()
    if child == 0:
        code = 3
        try:
            os.setsid()
            swap(module, mutant)
            code = int(any(failure_of(session, item) for item in items))
        except LookupError:
            code = 2
        finally:
            os._exit(code)
    end = time.monotonic() + patience
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return {0: "survived", 1: "killed", 2: "not tried"}.get(
                os.waitstatus_to_exitcode(status), "killed"
            )
        time.sleep(0.005)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    clean_up(session)
    return "timeout"


def clean_up(session: pytest.Session) -> None:
    """What a test that was ended in its middle left in the database."""
    if any(item.get_closest_marker("django_db") for item in session.items):
        blocker = session.config.stash[BLOCKER]
        with blocker.unblock():
            call_command("flush", verbosity=0, interactive=False)
            connections.close_all()


def swap(module: ModuleType, mutant: dict[str, str]) -> None:
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
