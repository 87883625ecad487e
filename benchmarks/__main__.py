"""python -m benchmarks [NAME…] [--quick] [--deliveries N] [--rows N] [--write]"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import replace

from . import figures, world

NEEDED = {"queues": "redis-server"}  # the programs that no package brings


def main() -> None:
    options = arguments()
    must_have(options.names)
    found: list[figures.Figure] = []
    with world.running():
        from . import measures

        size = measures.QUICK if options.quick else measures.Size()
        size = replace(size, soak=options.deliveries or size.soak, adopted=options.rows or size.adopted)
        for name in options.names or measures.MEASURES:
            if name not in measures.MEASURES:
                raise SystemExit(f"no measure {name!r}; there are {', '.join(measures.MEASURES)}")
            figures.note(name)
            found += measures.MEASURES[name](size)
            for figure in found[-1:]:
                figures.note(figure.row())
    print(figures.show(found))
    if options.write:
        figures.write(found)


def must_have(names: list[str]) -> None:
    """Say before the first minute, and not after the last, what a measure lacks."""
    for measure, program in NEEDED.items():
        if measure in (names or NEEDED) and shutil.which(program) is None:
            raise SystemExit(
                f"measure {measure!r} needs {program}, which is not installed: install it, or name others,"
                " such as make bench ARGS='at-once 20-ms'"
            )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure the engine in ratios.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="measures to run (default: all of them)")
    parser.add_argument("--quick", action="store_true", help="fewer rows and rounds, less history")
    parser.add_argument("--deliveries", type=int, metavar="N", help="in the soak (default: a million)")
    parser.add_argument("--rows", type=int, metavar="N", help="of the table to adopt (default: a million)")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    return parser.parse_args()


if __name__ == "__main__":
    main()
