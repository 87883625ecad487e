"""Two programs on one table: certctl's exact statements, from a process of its own, against a running worker.

A story is a line of steps, each begun when the last one's fact is there:

    I  certctl INSERTs          S  it sends          U  it UPDATEs by what its send answered
    A  the grace passes         C  our worker has claimed the row and is sending
    R  our send is answered, and the worker has put it on record
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Any, NamedTuple

import pytest
from aiohttp import web

from tests import postgres
from tests.processes import ROOT, eventually, hang_up
from tests.receiver import Background
from tests.reliability.support import Child, Nursery, Site

CERTIFICATES = """
    CREATE TABLE managed_certificates (id TEXT PRIMARY KEY);
    INSERT INTO managed_certificates VALUES ('mc-1');
    ALTER TABLE notification_events ADD FOREIGN KEY (certificate_id)
          REFERENCES managed_certificates(id) ON DELETE CASCADE;
"""
AGE = "UPDATE notification_events SET created_at = now() - INTERVAL '1 hour', requeued_at = NULL"
AGE_ALL = f"{AGE} WHERE status IN ('pending', 'failed')"
ROW = """
    SELECT status, leased_until IS NOT NULL, next_retry_at IS NOT NULL FROM notification_events WHERE id = %s
"""
ATTEMPTS = "SELECT count(*) FROM notification_attempts WHERE notification_id = %s"
SWEPT = """
    SELECT count(DISTINCT kind) FROM notification_sweeps
     WHERE started_at > %s
"""
SENT = ("sent", False, False)


class Stage(Background):
    """Takes note of who sends what, answers as each was told to, and holds our sends until they may go on."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived: Counter[tuple[str, str]] = Counter()
        self.accepted: Counter[tuple[str, str]] = Counter()
        self.fails: set[tuple[str, str]] = set()  # once
        self.held: set[str] = set()
        self._gates: dict[str, asyncio.Event] = {}

    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def let_go(self, pk: str, *, hold_the_next: bool = False) -> None:
        if not hold_the_next:
            self.held.discard(pk)
        self._loop.call_soon_threadsafe(lambda: self._gates.pop(pk, asyncio.Event()).set())

    async def _open(self) -> None:
        self._runner = web.ServerRunner(web.Server(self._handle, access_log=None), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.SockSite(self._runner, self._socket).start()

    async def _close(self) -> None:
        await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        pk, who = request.headers["webhook-id"], request.headers.get("X-Sender", "ours")
        await request.read()
        gate = self._gates.setdefault(pk, asyncio.Event()) if who == "ours" and pk in self.held else None
        failed = (pk, who) in self.fails
        self.fails.discard((pk, who))
        self.arrived[pk, who] += 1
        if gate:
            await gate.wait()
        self.accepted[pk, who] += not failed
        return web.Response(status=503 if failed else 200)


class Certctl:
    """The client of certctl.py."""

    def __init__(self, site: Site) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.reliability.certctl"],
            env=site.environment,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def order(self, do: str, **order: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, **order}) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        hang_up(self._process)


class Scene(NamedTuple):
    site: Site
    stage: Stage
    certctl: Certctl
    worker: Child
    nursery: Nursery

    def row(self, pk: str) -> tuple[Any, ...] | None:
        found = self.site.query(ROW, pk)
        return found[0] if found else None

    def becomes(self, pk: str, row: tuple[Any, ...] | None) -> None:
        eventually(lambda: self.row(pk) == row, f"{pk} to become {row}, not {self.row(pk)}")

    def attempts(self, pk: str) -> int:
        return int(self.site.value(ATTEMPTS, pk))

    def wake(self) -> None:
        self.site.query("NOTIFY notification_events")

    def age(self, pk: str) -> None:
        self.site.query(f"{AGE} WHERE id = %s", pk)
        self.wake()

    def claimed(self, pk: str, times: int = 1) -> None:
        eventually(lambda: self.stage.arrived[pk, "ours"] >= times, f"our worker to send {pk}")

    def go_on(self, pk: str, *, hold_the_next: bool = False) -> None:
        """Our send is answered, and on record."""
        before = self.attempts(pk)
        self.stage.let_go(pk, hold_the_next=hold_the_next)
        eventually(lambda: self.attempts(pk) > before, f"our attempt of {pk} on record")

    def swept(self, pk: str) -> None:
        """Sweeps of both kinds have begun since the row is as it is now, and have ended."""
        now = self.site.value("SELECT clock_timestamp()")
        eventually(lambda: self.site.value(SWEPT, now) == 2, f"a sweep of each kind after {pk}")

    def command(self, *command: str) -> str:
        process = self.nursery.start(*command)
        assert process.wait() == 0, process.said
        return process.said

    def tell(self, steps: str, pk: str) -> None:
        """Our send is left to hang where it ends the story."""
        answered = True
        for step in steps:
            match step:
                case "I":
                    self.stage.held.add(pk)
                    assert self.certctl.order("insert", id=pk, recipient=self.stage.url()) == 1
                case "S":
                    answered = self.certctl.order("send", id=pk, recipient=self.stage.url())
                case "U":
                    self.certctl.order("mark", id=pk, sent=answered)
                case "A":
                    self.age(pk)
                case "C":
                    self.claimed(pk)
                case "R":
                    self.go_on(pk)
        if not steps.endswith("C"):
            self.stage.let_go(pk)


@pytest.fixture(scope="module", params=["rescue", "takeover"])
def mode(request: pytest.FixtureRequest) -> str:
    mode: str = request.param
    return mode


@pytest.fixture(scope="module")
def scene(
    mode: str,
    server: postgres.Server,
    template: str,
    environment: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Scene]:
    """One database with certctl's certificates in it, one worker, one certctl."""
    site = Site(server, f"beside_{mode}", dict(environment))
    site.administer(f"CREATE DATABASE {site.name} TEMPLATE {template}")
    site.query(CERTIFICATES)
    own = {"DATABASE_URL": site.url(), "CERTCTL_NOTIFICATION_RETRY_INTERVAL": "200ms"}
    # What is rescued is so without a word where certctl is; takeover is somebody's decision.
    own |= {"CERTCTL_NOTIFICATION_BESIDE": mode} if mode == "takeover" else {}
    site.environment |= own
    nursery, certctl = Nursery(site.environment, tmp_path_factory.mktemp(mode)), Certctl(site)
    try:
        with Stage() as stage:
            worker = nursery.start()
            eventually(lambda: site.query("SELECT mode FROM notification_beside") == [(mode,)], "a sweep")
            yield Scene(site, stage, certctl, worker, nursery)
    finally:
        certctl.close()
        nursery.close()
        print(*(child.said[-3000:] for child in nursery.children))
        site.administer(f"DROP DATABASE {site.name} WITH (FORCE)")


def story(mode: str) -> pytest.MarkDecorator:
    """Of one of the modes only."""
    return pytest.mark.parametrize("mode", [mode], indirect=True)


RESCUES = ["ISUACR", "IACSUR", "IACRSU", "ISACUR", "ISACRU", "IACSRU"]
TAKEOVERS = ["IUCR", "ICUR", "ICRU", "ICSUR", "ICSRU", "ISUCR"]


def endings(steps: list[str], name: str) -> Iterator[tuple[str, str, bool, bool]]:
    for (n, line), theirs, ours in product(enumerate(steps), (True, False), (True, False)):
        yield line, f"{name}-{n}-{theirs:d}{ours:d}", theirs, ours


def told(scene: Scene, lines: list[str], name: str) -> None:
    """All orders, success and failure on either side: at least once, and twice only where both sent it."""
    pks = []
    for line, pk, theirs, ours in endings(lines, name):
        pks.append(pk)
        scene.stage.fails |= set() if theirs else {(pk, "certctl")}
        scene.stage.fails |= set() if ours else {(pk, "ours")}
        early = name == "rescue" and line.startswith("ISU") and theirs
        scene.tell(line.replace("ACR", "A") if early else line, pk)
        if early:
            assert scene.stage.arrived[pk, "ours"] == 0
    for pk in pks:
        scene.becomes(pk, SENT)
        by = {who: scene.stage.accepted[pk, who] for who in ("certctl", "ours")}
        assert max(by.values()) == 1, f"{pk} was accepted {by}"


@story("rescue")
def test_every_order_of_certctls_steps_and_ours_in_rescue(scene: Scene) -> None:
    told(scene, RESCUES, "rescue")


@story("takeover")
def test_every_order_of_certctls_steps_and_ours_in_takeover(scene: Scene) -> None:
    told(scene, TAKEOVERS, "takeover")


@story("rescue")
def test_what_certctl_raised_is_left_to_it_for_the_grace(scene: Scene) -> None:
    scene.tell("I", "patient")
    scene.swept("patient")
    assert scene.row("patient") == ("pending", False, False)
    assert scene.stage.arrived["patient", "ours"] == 0
    scene.age("patient")
    scene.becomes("patient", SENT)


@story("takeover")
def test_what_certctl_has_no_notifier_for_is_delivered(scene: Scene) -> None:
    """It marks such a row as sent before we have seen it."""
    scene.worker.send(signal.SIGSTOP)
    try:
        scene.tell("I", "taken")
        for order in ("mark", "mark", "reschedule", "bury"):
            said = {"sent": order != "reschedule"} if order == "mark" else {}
            assert scene.certctl.order(order, id="taken", **said) == 0
        assert scene.certctl.order("mark", id="taken", sent=False) == 0
        assert scene.row("taken") == ("pending", False, False)
    finally:
        scene.worker.send(signal.SIGCONT)
    scene.becomes("taken", SENT)


def test_a_sent_one_stays_so_whatever_certctl_says(scene: Scene, mode: str) -> None:
    pk = f"stays-{mode}"
    scene.tell("IACR", pk)
    scene.becomes(pk, SENT)
    answers = [scene.certctl.order("mark", id=pk, sent=False)]
    answers += [scene.certctl.order(order, id=pk) for order in ("bury", "reschedule")]
    assert answers == [0, 0, 0]
    assert scene.row(pk) == SENT


def test_certctls_say_while_we_attempt_is_ours(scene: Scene, mode: str) -> None:
    pk = f"say-{mode}"
    scene.tell("IAC", pk)
    answers = [scene.certctl.order(order, id=pk) for order in ("bury", "reschedule")]
    assert [*answers, scene.certctl.order("mark", id=pk, sent=False)] == [0, 0, 0]
    scene.go_on(pk)
    scene.becomes(pk, SENT)


def test_a_requeue_in_certctl_while_we_attempt(scene: Scene, mode: str) -> None:
    """It is pending, whatever becomes of the attempt, and delivered anew."""
    pk = f"requeued-{mode}"
    scene.stage.fails.add((pk, "ours"))
    scene.tell("IAC", pk)
    scene.go_on(pk, hold_the_next=True)
    scene.claimed(pk, times=2)
    assert scene.row(pk) == ("failed", True, True)
    assert scene.certctl.order("requeue", id=pk) == 1
    if mode == "rescue":
        assert scene.row(pk) == ("pending", False, False)
        scene.go_on(pk)
        assert scene.row(pk) == ("pending", False, False)
        scene.age(pk)
    scene.stage.let_go(pk)
    scene.becomes(pk, SENT)
    assert scene.stage.accepted[pk, "ours"] == 2


def test_a_mark_as_read_in_certctl_while_we_attempt(scene: Scene, mode: str) -> None:
    pk = f"read-{mode}"
    scene.tell("IAC", pk)
    assert [scene.certctl.order("read", id=pk) for _ in range(2)] == [1, 1]
    scene.go_on(pk)
    assert scene.row(pk) == ("read", False, False)


def test_deleting_the_certificate_while_we_attempt(scene: Scene, mode: str) -> None:
    pk = f"deleted-{mode}"
    scene.site.query("INSERT INTO managed_certificates VALUES (%s)", pk)
    scene.stage.held.add(pk)
    scene.certctl.order("insert", id=pk, recipient=scene.stage.url(), certificate=pk)
    scene.age(pk)
    scene.claimed(pk)
    assert scene.certctl.order("delete", certificate=pk) == 1
    scene.stage.let_go(pk)
    scene.tell("IACR", f"next-{mode}")
    scene.becomes(f"next-{mode}", SENT)
    assert scene.row(pk) is None


@story("rescue")
def test_an_alert_of_ours_needs_no_grace(scene: Scene) -> None:
    pk = raised(scene, "prompt")
    scene.becomes(pk, SENT)
    assert scene.stage.accepted[pk, "ours"] == 1


@story("rescue")
def test_an_alert_of_ours_that_certctl_marks_as_sent_is_delivered(scene: Scene) -> None:
    """Its loop does, where it has no notifier; and it does not take the same row again and again."""
    scene.worker.send(signal.SIGSTOP)
    try:
        pk = raised(scene, "claimed by another")
        scene.certctl.order("loops", rounds=3, notifier=False)
        assert scene.row(pk) == ("failed", False, False)
    finally:
        scene.worker.send(signal.SIGCONT)
    scene.age(pk)
    scene.becomes(pk, SENT)
    assert scene.stage.accepted[pk, "ours"] == 1


def raised(scene: Scene, key: str) -> str:
    """By our own command line."""
    url = scene.stage.url()
    what = ("--type", "Revocation", "--channel", "Webhook", "--recipient", url, "--message", "revoked")
    scene.command("notifications", "create", *what, "--dedup-key", key)
    return str(scene.site.value("SELECT id FROM notification_events WHERE dedup_key = %s", key))


@story("rescue")
def test_old_ones_and_mails_are_taken_only_when_asked_for(scene: Scene) -> None:
    for pk, channel in (("old", "Webhook"), ("mailed", "email")):
        scene.certctl.order("insert", id=pk, recipient=scene.stage.url(), channel=channel)
        scene.certctl.order("mark", id=pk, sent=False)
    scene.site.query("UPDATE notification_events SET created_at = now() - INTERVAL '2 days' WHERE id = 'old'")
    scene.age("mailed")
    scene.swept("both")
    left = ("failed", False, False)
    assert (scene.row("old"), scene.row("mailed")) == (left, left)
    said = json.loads(
        scene.command("retry_notifications", "--include-unscheduled", "--json").splitlines()[-1]
    )
    assert said["adopted"] == 1
    scene.becomes("old", SENT)
    assert scene.row("mailed") == left
    asked = ("retry_notifications", "--include-probably-delivered", "--json")
    assert json.loads(scene.command(*asked).splitlines()[-1])["adopted"] == 1
    scene.becomes("mailed", ("failed", False, True))  # until a worker has a notifier for it


def test_both_at_full_speed(scene: Scene, mode: str) -> None:
    """Alerts and both of certctl's loops against the worker, while the grace passes for whatever is open."""
    sends = mode == "rescue"
    others = [Certctl(scene.site) for _ in range(3)]
    scene.stage.fails |= {(f"free-{seed}-{n}", "certctl") for seed in (1, 2) for n in range(0, 40, 4)}
    try:
        with ThreadPoolExecutor() as threads:
            work = [
                threads.submit(
                    others[seed].order,
                    "alerts",
                    count=40,
                    recipient=scene.stage.url(),
                    notifier=sends,
                    seed=seed,
                )
                for seed in (1, 2)
            ]
            loops = threads.submit(others[0].order, "loops", rounds=10, notifier=sends)
            while not all(done.done() for done in (*work, loops)):
                scene.site.query(AGE_ALL)
            pks = [pk for done in work for pk in done.result()]
    finally:
        for other in others:
            other.close()
    scene.site.query(AGE_ALL)
    for pk in pks:
        scene.becomes(pk, SENT)
        by = {who: scene.stage.accepted[pk, who] for who in ("certctl", "ours")}
        assert sum(by.values()) >= 1, f"{pk} was accepted {by}"
        assert by["ours"] <= 1, f"{pk} was accepted {by}"
