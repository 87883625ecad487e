"""One sweep in a process of its own: says it is ready, waits for a line, sweeps, and answers in JSON."""

from __future__ import annotations

import json
import resource
import sys

from . import world


def main(limit: int, in_flight: int) -> None:
    world.setup()
    world.configure(CONCURRENCY=in_flight, ENDPOINT_CONCURRENCY=in_flight)
    from notifications import delivery

    delivery.retry_failed(limit=1, channel="a channel without rows")  # loads all that a sweep needs
    print("ready", flush=True)
    sys.stdin.readline()
    result = delivery.retry_failed(limit=limit)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({**result.as_dict(), "peak": peak}), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
