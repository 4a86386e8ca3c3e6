"""`taskrun hosts -s …`: is each host usable? A table, before any run."""

from __future__ import annotations

import json
import signal
import sys

from taskrun.errors import ExitCode, told
from taskrun.options import command_parser, parse_command

OPTIONS = ("hosts", "cpus_per_task", "tasks_per_node", "ssh", "workdir")

_EPILOG = """\
Each host is reached as a run would reach it, all of them side by side; nothing is installed or started there.

clock: how far it is ahead of this one · latency: there and back · this folder: whether the host sees it, else --workdir DIR says where
tasks run there · GNU Parallel: where there is none, this machine's is sent along, or the built-in starter starts tasks

exit codes: 0 every host can be used · 1 some cannot · 2 refused

examples:
  taskrun hosts -s localhost:4,otherhost:8
  taskrun hosts -s 'node[01-16]:8' --workdir /tmp/night
  taskrun hosts -s me@gpu01:4 --ssh ssh --json
"""


def hosts(argv: list[str]) -> int:
    """Runs the command with the arguments after its name; returns the exit code. Raises Refused."""
    parser = command_parser("hosts", "-s HOST:COUNT[,…] [options]", "Shows whether tasks can run on each host.", OPTIONS, _EPILOG)
    parser.add_argument("--json", action="store_true", help="a list of objects for programs instead of the table")
    given, options = parse_command(parser, argv, OPTIONS)
    from taskrun.driver.contexts import choose_engines
    from taskrun.driver.look import look
    from taskrun.observers.hosts import plain, table

    engines, warnings = choose_engines(options)
    for warning in warnings:
        sys.stderr.write(told(warning) + "\n")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)  # its temporary files do not stay
    seen = look(engines, options, lambda text: print(told(text), file=sys.stderr, flush=True))
    if given.json:
        sys.stdout.write(json.dumps([plain(each) for each in seen], indent=1) + "\n")
    else:
        for line in table(seen, options.workdir or ""):
            sys.stdout.write(line + "\n")
    return ExitCode.TASKS_FAILED if any(each.why for each in seen) else ExitCode.OK


def _end(number: int, _: object) -> None:
    raise SystemExit(128 + number)
