"""Commands of the console script, each in a process of its own, without the second that each takes to start.

`python -m tests.management.forked '[["notifications", "list"], …]'` prints what came of each, as JSON.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from typing import Any

PATIENCE = 30  # seconds for one command


def ran(arguments: list[str]) -> dict[str, Any]:
    """Its exit code (below 0: the signal that ended it), standard output and error."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if not child:
            become(arguments, out.fileno(), err.fileno())
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        out.seek(0)
        err.seek(0)
        return {"code": code, "out": out.read().decode(), "err": err.read().decode()}


def become(arguments: list[str], out: int, err: int) -> None:
    """The console script with these arguments; nobody is at the keyboard."""
    from certctl.__main__ import main

    signal.alarm(PATIENCE)
    for descriptor, number in ((os.open(os.devnull, os.O_RDONLY), 0), (out, 1), (err, 2)):
        os.dup2(descriptor, number)
    sys.argv = ["certctl", *arguments]
    code: Any = 1
    try:
        main()
        code = 0
    except SystemExit as end:
        code = end.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else code is not None)


if __name__ == "__main__":
    import django
    from django.core.checks import run_checks
    from django.core.management import get_commands, load_command_class

    django.setup()
    run_checks()  # what any of them imports is there before they are made
    for command, app in get_commands().items():
        load_command_class(app, command)
    print(json.dumps([ran(arguments) for arguments in json.loads(sys.argv[1])]))
