"""Break the rules one at a time, and see whether a test notices: `make mutants`.

    python -m tests.mutants --maker .venv-mutants/bin/python [MODULE ...] [--jobs N] [--minutes M] [--report]

Every survivor is killed by a better test or explained in survivors.toml; one that is neither is exit code 1,
and so is an explanation that no mutant needs any more. What is explained is not tried.
What was killed is remembered in .mutants/ as long as its function stays as it is: a run that was interrupted,
or that its minutes ended, goes on there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
RESULTS = ROOT / ".mutants"
KILLED, ALIVE = ("killed", "timeout"), ("survived", "no test")
WORDS = ("killed", "timeout", "survived", "no test", "not tried")
IDENTITY = ("function", "version", "before", "after")

Mutant = dict[str, Any]


def main() -> int:
    modules = tomllib.loads((HERE / "modules.toml").read_text())
    asked = arguments(modules)
    explained = Explained()
    RESULTS.mkdir(exist_ok=True)

    def tried(name: str) -> int:
        mutants = made(name, asked.maker)
        open_ones = [m for m in mutants if not explained.covers(name, m)]
        bad = 0
        for database in [] if asked.report else modules[name]["databases"]:
            known = verdicts(name)
            left = [m for m in open_ones if known.get(key(m)) not in KILLED]
            if left:
                bad += run(name, modules[name], database, sampled(left, asked), asked.minutes)
        return bad + report(name, mutants, open_ones, verdicts(name))

    names = asked.modules or list(modules)
    with ThreadPoolExecutor(asked.jobs) as pool:
        bad = sum(pool.map(tried, names))
    return 1 if bad + explained.report_idle(names) else 0


def arguments(modules: dict[str, Any]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.mutants", description="Break the rules and see who notices.")
    parser.add_argument(
        "modules", nargs="*", metavar="MODULE", choices=[*modules, []], help="all, unless named"
    )
    parser.add_argument("--maker", default=sys.executable, help="the Python that has mutmut")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="modules at the same time")
    parser.add_argument("--sample", type=int, default=0, help="at most so many of each module; 0 is all")
    parser.add_argument("--seed", type=int, default=11, help="of the sample")
    parser.add_argument("--minutes", type=float, default=60, help="at most, for a module and database")
    parser.add_argument("--report", action="store_true", help="run nothing, say what is known")
    return parser.parse_args()


class Explained:
    """What survivors.toml says, and which of it is needed.

    [[survivor]]    in one function of one module: a change of this line into one of these
    [[everywhere]]  in all modules: a change of these very words into those, and of nothing else
    """

    def __init__(self) -> None:
        listed = tomllib.loads((HERE / "survivors.toml").read_text())
        self.survivors = {
            (entry["module"], entry["function"], entry["before"], after)
            for entry in listed.get("survivor", [])
            for after in entry["after"]
            if entry["why"].strip()
        }
        self.everywhere = [(e["words"], e["become"]) for e in listed["everywhere"] if e["why"].strip()]
        self.needed: set[tuple[str, ...]] = set()

    def covers(self, module: str, mutant: Mutant) -> bool:
        exact = (module, mutant["function"], mutant["before"], mutant["after"])
        if exact in self.survivors:
            self.needed.add(exact)
            return True
        before, after = mutant["before"], mutant["after"]
        return any(
            words in before and after in replaced_once(before, words, become)
            for words, become in self.everywhere
        )

    def report_idle(self, modules: Collection[str]) -> int:
        """How many explanations of these modules explain nothing: the line is another now."""
        idle = [known for known in self.survivors - self.needed if known[0] in modules]
        for module, function, before, after in sorted(idle):
            print(f"survivors.toml: no such mutant: {module} {function}\n    - {before}\n    + {after}")
        return len(idle)


def replaced_once(text: str, words: str, become: str) -> Iterator[str]:
    at = text.find(words)
    while at >= 0:
        yield text[:at] + become + text[at + len(words) :]
        at = text.find(words, at + 1)


def made(name: str, maker: str) -> list[Mutant]:
    """The module's mutants; made again only when the module, or what makes them, has changed."""
    path, program = ROOT / (name.replace(".", "/") + ".py"), HERE / "make.py"
    version = hashlib.sha256(path.read_bytes() + program.read_bytes()).hexdigest()[:16]
    kept = RESULTS / f"{name}.made" / version
    if not kept.exists():
        done = subprocess.run([maker, program, path], capture_output=True, text=True, check=True)
        shutil.rmtree(kept.parent, ignore_errors=True)
        kept.parent.mkdir()
        kept.write_text(done.stdout)
    return [json.loads(line) for line in kept.read_text().splitlines()]


def key(mutant: Mutant) -> tuple[str, ...]:
    return tuple(mutant[part] for part in IDENTITY)


def sampled(mutants: list[Mutant], asked: argparse.Namespace) -> list[Mutant]:
    """In random order, so that a run which its minutes end has looked evenly."""
    shuffled = random.Random(asked.seed).sample(mutants, len(mutants))
    return shuffled[: asked.sample] if asked.sample else shuffled


def verdicts(name: str) -> dict[tuple[str, ...], str]:
    path = results_of(name)
    lines = path.read_text().splitlines() if path.exists() else []
    return {key(found): found["verdict"] for found in map(json.loads, lines)}


def results_of(name: str) -> Path:
    return RESULTS / f"{name}.jsonl"


def run(name: str, module: dict[str, Any], database: str, mutants: list[Mutant], minutes: float) -> int:
    """Try the mutants, in the order given; the exit code of the tests, which must pass unchanged."""
    order = RESULTS / f"{name}.order.json"
    until = time.time() + minutes * 60
    wanted = {"module": name, "mutants": mutants, "results": str(results_of(name)), "until": until}
    order.write_text(json.dumps(wanted))
    environment = {**os.environ, "TEST_DATABASE": database, "MUTANTS_ORDER": str(order)}
    options = ["-q", "-n", "0", "--assert=plain", "-p", "no:cacheprovider", "-p", "tests.mutants.plugin"]
    skipped = [f"--deselect={test}" for test in module.get("but", ())]
    tests = [*module["tests"], *(module.get("on_postgresql", ()) if database == "postgresql" else ())]
    command = [sys.executable, "-m", "pytest", *options, *skipped, *tests]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    order.unlink()
    if done.returncode not in (0, 5):  # 5: pytest counts no test, because it ran none by itself
        print(f"{name}: {done.stdout[-4000:]}{done.stderr[-2000:]}")
        return done.returncode
    return 0


def report(
    name: str, mutants: list[Mutant], open_ones: list[Mutant], known: dict[tuple[str, ...], str]
) -> int:
    """Print what became of the module's mutants; how many live without an explanation."""
    count = Counter(known.get(key(mutant), "left") for mutant in open_ones)
    numbers = [f"{count[word]} {word}" for word in (*WORDS, "left") if count[word]]
    explained = len(mutants) - len(open_ones)
    lines = [f"{name}: {len(mutants)} mutants: {', '.join([*numbers, f'{explained} explained'])}"]
    bad = [mutant for mutant in open_ones if known.get(key(mutant)) in ALIVE]
    for m in bad:
        lines += [f"  {m['function']} ({known[key(m)]})", f"    - {m['before']}", f"    + {m['after']}"]
    print("\n".join(lines), flush=True)
    return len(bad)


if __name__ == "__main__":
    sys.exit(main())
