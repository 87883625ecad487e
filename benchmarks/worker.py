"""One sweep in a process of its own: says it is ready, waits for a line, sweeps, and answers in JSON."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

from . import world


def main(limit: int, in_flight: int) -> None:
    world.setup()
    world.configure(CONCURRENCY=in_flight, ENDPOINT_CONCURRENCY=in_flight)
    from notifications import delivery

    delivery.retry_failed(limit=1, channel="a channel without rows")  # loads all that a sweep needs
    print("ready", flush=True)
    sys.stdin.readline()
    result = delivery.retry_failed(limit=limit)
    print(json.dumps({**result.as_dict(), "peak": peak()}), flush=True)


def peak() -> int:
    """The most memory that this process held, in kB: getrusage would count its parent's before exec."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
