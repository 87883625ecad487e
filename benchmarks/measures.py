"""What is measured: each function runs one comparison and answers its figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from statistics import median, quantiles

from django.db import DEFAULT_DB_ALIAS

from tests.reliability.hosts import ManyHosts

from . import (
    adoption,
    certificates,
    console,
    engines,
    history,
    processes,
    raising,
    rivals,
    sinks,
    statements,
    world,
)
from .figures import Figure, alternate, note, over

PACED = 50  # attempts in flight at one endpoint where nothing else is said: the app's own default


@dataclass(frozen=True)
class Size:
    """How much is measured: rows and rounds, and the larger of the two histories."""

    due: int = 10_000
    rounds: int = 5
    past: int = 10_000_000
    queue: int = 100_000
    soak: int = 1_000_000
    adopted: int = 1_000_000
    hosts: int = 3_000


QUICK = Size(due=2_000, rounds=3, past=1_000_000, queue=20_000, soak=50_000, adopted=100_000, hosts=600)


def at_once(size: Size) -> Iterator[Figure]:
    yield _over_bare(size, 0, "answers at once", target=0.8)


def after_20_ms(size: Size) -> Iterator[Figure]:
    yield _over_bare(size, 20, "takes 20 ms", target=0.7)


def _over_bare(size: Size, milliseconds: int, receiver: str, target: float) -> Figure:
    with sinks.running(milliseconds) as [url]:
        ratios = _against_bare(size, url)
    name = f"{size.due:,} rows, a receiver that {receiver}: the engine's rate over bare aiohttp's"
    return Figure(name, ratios, target=target)


def _against_bare(size: Size, url: str) -> list[float]:
    world.refill(size.due, url)
    posts = engines.bodies()
    engines.bare(url, posts[:500])
    engines.sweep_of(500, url)
    seconds = alternate(
        2 * size.rounds + 1,  # short runs, which other work on the machine disturbs most
        bare=lambda: engines.bare(url, posts),
        engine=lambda: engines.sweep_of(size.due, url),
    )
    return over(seconds["bare"], seconds["engine"])


def queues(size: Size) -> Iterator[Figure]:
    few = size.due // 5  # they take their time; their rate does not depend on how many there are
    with sinks.running(0) as [url], rivals.redis():
        runs = {name: (lambda run=run: run(few, url) / few) for name, run in rivals.RIVALS.items()}
        per_row = alternate(
            min(3, size.rounds), engine=lambda: engines.sweep_of(size.due, url) / size.due, **runs
        )
    for name in runs:
        yield Figure(
            f"a receiver that answers at once: the engine's rate over that of {name}",
            over(per_row[name], per_row["engine"]),
            target=8,
        )


def two_workers(size: Size) -> Iterator[Figure]:
    def run(count: int, url: str) -> Callable[[], float]:
        def timed() -> float:
            world.refill(size.due, url)
            return processes.sweeps(count, size.due, PACED).seconds

        return timed

    with sinks.running(20, 0) as (slow, fast):
        for url, receiver, target in ((slow, "takes 20 ms", 1.6), (fast, "answers at once", None)):
            seconds = alternate(size.rounds, one=run(1, url), two=run(2, url))
            yield Figure(
                f"{size.due:,} rows, a receiver that {receiver}, {PACED} in flight in each process:"
                " the rate of two processes over one's",
                over(seconds["one"], seconds["two"]),
                target=target,
            )


def past(size: Size) -> Iterator[Figure]:
    little, few = size.past // 100, 20

    def sweep_in(alias: str) -> float:
        history.use(alias)
        return engines.sweep(few)

    with sinks.running(0) as [url]:
        for alias, rows in (("little", little), ("much", size.past)):
            note(f"making {rows:,} rows of history")
            history.make(alias, rows, size.due, url)
            sweep_in(alias)
        seconds = alternate(
            4 * size.rounds, little=partial(sweep_in, "little"), much=partial(sweep_in, "much")
        )
        history.use(DEFAULT_DB_ALIAS)
    yield Figure(
        f"a sweep of {few} of {size.due:,} due rows: the time with {size.past:,} rows of history"
        f" over that with {little:,}",
        over(seconds["much"], seconds["little"]),
        wants="<=",
        target=1.2,
    )


def database(size: Size) -> Iterator[Figure]:
    url = "http://192.0.2.1/hooks/alerts"
    transactions = statements.issued(size.due, url)
    seconds = alternate(
        2 * size.rounds + 1,  # short runs, which other work on the machine disturbs most
        bare=lambda: statements.replay(size.due, url, transactions),
        engine=lambda: statements.claim_and_record(size.due, url),
    )
    yield Figure(
        f"claiming and recording {size.due:,} rows without sending: the rate over bare psycopg's,"
        " same statements",
        over(seconds["bare"], seconds["engine"]),
        target=0.6,
    )


def beside(size: Size) -> Iterator[Figure]:
    """Of one's own writes the guard is to cost next to nothing, whichever way one lives together."""
    url = "http://192.0.2.1/hooks/alerts"
    world.execute("INSERT INTO notification_beside (id, mode, since) VALUES (1, 'takeover', now())")
    seconds = alternate(
        4 * size.rounds + 1,
        without=lambda: statements.unguarded(size.due, url),
        guarded=lambda: statements.guarded(size.due, url),
    )
    world.execute("DELETE FROM notification_beside")
    yield Figure(
        f"claiming and recording {size.due:,} rows without sending: the processor time with the guard against"
        " certctl's marks over that without",
        over(seconds["guarded"], seconds["without"]),
        wants="<=",
        target=1.03,
    )


def writes(size: Size) -> Iterator[Figure]:
    """Bytes and rows, not time: the same everywhere, but for the pages that a checkpoint makes whole."""
    with sinks.running(0) as [url]:
        world.refill(0, url)
        raised = statements.written(size.due, lambda: world.raise_pending(size.due, url, "written"))
        world.settle()
        sent = statements.written(size.due, lambda: engines.first_sweep(size.due))
    note(f"raising: {raised}")
    note(f"delivering: {sent}")
    yield Figure(
        f"{size.due:,} rows delivered at once: the WAL that delivering takes over that of raising",
        [sent.log / raised.log],
    )


def hanging(size: Size) -> Iterator[Figure]:
    fine = size.due * 4 // 5

    def alone() -> float:
        world.refill(fine, fast)
        return engines.sweep_until(fine, limit=size.due)

    def behind() -> float:
        world.empty()
        world.add_due(size.due - fine, never, name="hang", age="2 hours")
        world.add_due(fine, fast)
        world.settle()
        return engines.sweep_until(fine, limit=size.due)

    with sinks.running(0, sinks.NEVER) as (fast, never):
        alone()
        seconds = alternate(size.rounds, alone=alone, behind=behind)
    yield Figure(
        f"{fine:,} rows behind {size.due - fine:,} older ones whose receiver never answers:"
        " the time over what they need alone",
        over(seconds["behind"], seconds["alone"]),
        wants="<=",
        target=1.15,
    )


def many_endpoints(size: Size) -> Iterator[Figure]:
    """A worker that has been running, and alerts to hosts that it has heard from, beside ever more to such as
    hang."""
    answering = size.hosts // 30
    with ManyHosts() as hosts:
        hanging, good = hosts.hanging(size.hosts - answering), hosts.answering(answering)
        seconds = processes.beside(hanging, good, alerts=size.hosts // 3)
        hosts.let_go()
    note(f"{median(seconds):.2f} s at the median, {max(seconds):.2f} s at most")
    yield Figure(
        f"{size.hosts:,} endpoints of which {answering:,} answer and the others hang: seconds from raised to"
        " on record as sent of an alert to one that answers, at the 99th percentile",
        [quantiles(seconds, n=100)[98]],
        wants="<=",
        target=2,
    )


def memory(size: Size) -> Iterator[Figure]:
    few = size.queue // 10

    def peak(count: int) -> float:
        world.refill(count, url)
        return float(processes.sweeps(1, count, world.IN_FLIGHT).results[0]["peak"])

    with sinks.running(0) as [url]:
        pairs = [(peak(few), peak(size.queue)) for _ in range(min(3, size.rounds))]
    yield Figure(
        f"peak memory of a process that sweeps {size.queue:,} rows over {few:,}",
        [much / little for little, much in pairs],
        wants="<=",
        target=1.3,
    )


def soak(size: Size) -> Iterator[Figure]:
    with sinks.running(0) as [url], world.stopwatch() as seconds:
        samples = processes.always_on(size.soak, url)
    note(f"{size.soak / seconds[0]:,.0f} a second, the worker's start included")
    warm, half = size.soak // 10, size.soak * 11 // 20
    first = max(sample.memory for sample in samples if warm <= sample.delivered < half)
    last = max(sample.memory for sample in samples if sample.delivered >= half)
    note(f"{first:,} kB at most in the first half after the warm-up, {last:,} kB in the last")
    yield Figure(
        f"{size.soak:,} deliveries by one always-on worker: its peak memory in the last half over that in the"
        " first, after a tenth to warm up",
        [last / first],
        wants="<=",
        target=1.1,
    )


def watching(size: Size) -> Iterator[Figure]:
    count = size.due
    with certificates.endpoints() as (port, root):
        certificates.fill(count, port, root)
        certificates.looked_at(count)  # what is new is written but once

        def again() -> float:
            certificates.due_again()
            return certificates.looked_at(count)

        seconds = alternate(size.rounds, bare=lambda: certificates.bare(count, port), watching=again)
        note(f"{count / median(seconds['watching']):,.0f} endpoints a second")
        yield Figure(
            f"{count:,} TLS endpoints looked at by one process: the rate over a bare asyncio loop's",
            over(seconds["bare"], seconds["watching"]),
            target=0.8,
        )
        peaks = {}
        for number in (count // 10, count):
            certificates.fill(number, port, root)
            peaks[number] = certificates.peak_of(number)
            note(f"{number:,} endpoints: {peaks[number]:,} kB")
    yield Figure(
        f"peak memory of a process that looks at {count:,} TLS endpoints over {count // 10:,}",
        [peaks[count] / peaks[count // 10]],
        wants="<=",
        target=1.3,
    )


def pages(size: Size) -> Iterator[Figure]:
    rows = size.past // 2
    world.empty()
    note(f"making {rows:,} rows to look at")
    found = console.measured(rows, size.rounds)
    for name, times in found.items():
        note(console.line(name, times))
    yield Figure(
        f"the console over {rows:,} notifications: the server time of its slowest page, of {len(found)},"
        f" over {console.BUDGET:.0f} ms",
        [max(map(median, found.values())) / console.BUDGET],
        wants="<=",
        target=1,
    )


def adopting(size: Size) -> Iterator[Figure]:
    for shape in adoption.SHAPES:
        waits = adoption.stalls(shape, size.adopted)
        for who, seconds in zip(("writer", "reader"), waits, strict=True):
            yield Figure(
                f"`migrate` on {shape} with {size.adopted:,} rows: the longest wait of a {who} that comes"
                " every 20 ms, over a second",
                [seconds],
                wants="<=",
                target=1,
            )


def raised(size: Size) -> Iterator[Figure]:
    seconds = alternate(
        size.rounds,
        together=lambda: raising.together(10_000),
        again=lambda: raising.again(10_000),
        one_by_one=lambda: raising.one_by_one(10_000),
    )
    name = "10,000 alerts by one `notify_many`"
    yield Figure(f"{name}: the time over a second", seconds["together"], wants="<=", target=1)
    yield Figure(f"{name}, all raised before: the time over a second", seconds["again"], wants="<=", target=1)
    calls = over(seconds["one_by_one"], seconds["together"])
    yield Figure(f"{name}: the rate over that of `notify`, in one transaction too", calls)


MEASURES: dict[str, Callable[[Size], Iterator[Figure]]] = {
    "at-once": at_once,
    "20-ms": after_20_ms,
    "hanging": hanging,
    "many-endpoints": many_endpoints,
    "database": database,
    "beside": beside,
    "writes": writes,
    "two-workers": two_workers,
    "memory": memory,
    "soak": soak,
    "queues": queues,
    "history": past,
    "watching": watching,
    "console": pages,
    "adoption": adopting,
    "raising": raised,
}
