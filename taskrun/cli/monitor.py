"""`taskrun monitor PREFIX`: contexts, engines and slots of a run, live or from its files."""

from __future__ import annotations

import json
import os
import shutil
import sys

from taskrun.errors import ExitCode, told
from taskrun.options import command_parser, parse_command

_EPILOG = """\
On a terminal: a live view, in which h shows the keys (E stops an engine, C a context, ! at once, q leaves). Elsewhere, with
--once or --json, and of a run that is over: the same as text, once.

exit codes: 0 · 2 there is no such run
"""


def monitor(argv: list[str]) -> int:
    """Runs the command with the arguments after its name; returns the exit code. Raises Refused."""
    chosen = ("use_address",)
    parser = command_parser("monitor", "PREFIX [--once | --json]", "Shows contexts, engines and slots of a run.", chosen, _EPILOG)
    parser.add_argument("prefix", metavar="PREFIX", help="the run, by what the names of its files begin with, or one of its files")
    parser.add_argument("--once", action="store_true", help="print it once, and end")
    parser.add_argument("--json", action="store_true", help="the same as one JSON object")
    given, options = parse_command(parser, argv, chosen)
    from taskrun.driver import monitoring
    from taskrun.observers import monitor as shown

    movable = sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")
    where = monitoring.source(given.prefix, options.use_address)
    try:
        if movable and not given.once and not given.json and isinstance(where, monitoring.Asked):
            monitoring.live(where, given.prefix)
            return ExitCode.OK
        picture = where.look()
    finally:
        where.close()
    if given.json:
        print(json.dumps(picture))
        return ExitCode.OK
    sys.stdout.write(shown.text(picture, shutil.get_terminal_size().columns - 1 if sys.stdout.isatty() else None))
    if where.note:
        sys.stderr.write(told(where.note) + "\n")
    return ExitCode.OK
