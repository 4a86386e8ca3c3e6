"""`taskrun detach PREFIX ENGINE|CONTEXT`: sends an engine, or a context with all its engines, away from a run that goes on."""

from __future__ import annotations

import sys

from taskrun.errors import ExitCode, Refused, told
from taskrun.options import command_parser, parse_command

_EPILOG = """\
It ends what it runs, then its PERENGINE STOP commands, then it leaves; with --now what it runs is ended and runs again elsewhere.
`taskrun monitor PREFIX --once` has the names. A context of `taskrun attach` ends with its last engine.

exit codes: 0 the run has taken it up · 2 refused
"""


def detach(argv: list[str]) -> int:
    """Runs the command with the arguments after its name; returns the exit code. Raises Refused."""
    chosen = ("use_address", "quiet")
    parser = command_parser("detach", "PREFIX ENGINE|CONTEXT [--now]", "Sends engines away from a run that goes on.", chosen, _EPILOG)
    parser.add_argument("prefix", metavar="PREFIX", help="the run")
    parser.add_argument("name", metavar="ENGINE|CONTEXT", help="who is to leave")
    parser.add_argument("--now", action="store_true", help="end what it runs")
    given, options = parse_command(parser, argv, chosen)
    if not given.name:
        raise Refused("detach: name an engine or a context; `taskrun monitor PREFIX --once` has the names")
    from taskrun.driver.caller import Caller
    from taskrun.engines import attach_frames as at

    caller = Caller(given.prefix, "control", options.use_address)
    try:
        done = caller.ask(at.Detach(given.name[: at.NAME_MOST], given.now), at.Done)
    finally:
        caller.close()
    assert isinstance(done, at.Done)
    if not options.quiet:
        sys.stderr.write(told(done.text) + "\n")
    return ExitCode.OK
