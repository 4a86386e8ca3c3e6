"""`taskrun attach PREFIX -s …`: adds engines to a run that goes on, from this or another machine."""

from __future__ import annotations

import sys
from pathlib import Path

from taskrun.errors import ExitCode, Refused, told
from taskrun.options import command_parser, parse_command

OPTIONS = (
    "hosts", "cpus_per_task", "tasks_per_node", "task_limit", "label", "fill", "gpu", "env_resource", "ssh", "workdir", "env",
    "use_address", "quiet",
)  # fmt: skip

_EPILOG = """\
PREFIX is what the names of the run's files begin with. On a machine that does not see them: a copy of PREFIX_attach.json,
or of what `--invite FILE` writes, which can bring engines and do nothing else to the run.

Ctrl-C lets the engines end what they run and leave; a second one ends that, and it runs again elsewhere.

exit codes: 0 the run is over, or the engines have left as they were told · 2 refused, or no host could be used ·
  3 the connection broke, or a signal took the machine back · 130/143 ended by a second SIGINT/SIGTERM

examples:
  taskrun attach night -s localhost:4,friend:5
  taskrun attach /shared/night -s localhost:8 -C 100     for a hundred tasks
  taskrun attach night --invite friend.json              for somebody else, who types
  taskrun attach friend.json -s localhost:4 --workdir /tmp/night
"""


def attach(argv: list[str]) -> int:
    """Runs the command with the arguments after its name; returns the exit code. Raises Refused."""
    parser = command_parser(
        "attach", "PREFIX -s HOST:COUNT[,…] [options]", "Adds engines to a run that goes on; they are there as long as this command.",
        OPTIONS, _EPILOG,
    )  # fmt: skip
    parser.add_argument("prefix", metavar="PREFIX", help="the run")
    parser.add_argument("--invite", metavar="FILE", help="write what another machine needs to attach, and attach nothing")
    given, options = parse_command(parser, argv, OPTIONS)
    if given.invite is not None:
        return _invite(given.prefix, given.invite)
    if options.label and ("/" in options.label or len(options.label) > 64 or not options.label.isprintable()):
        raise Refused("-l: a label has at most 64 characters, and no slash")
    from taskrun.driver import surroundings

    surroundings.check()
    from taskrun.driver.attaching import attach as go
    from taskrun.driver.contexts import choose_engines

    return go(given.prefix, options, choose_engines)


def _invite(prefix: str, file: str) -> int:
    from dataclasses import replace

    from taskrun.driver.caller import find
    from taskrun.engines.invitation import is_given_away

    path = Path(file)
    try:
        if not path.name or ((path.is_symlink() or path.exists()) and not is_given_away(path)):
            raise Refused(f"--invite {file}: that is there, and was not made by --invite: give the name of a new file")
        replace(find(prefix), control="").write(path)
    except OSError as error:
        raise Refused(f"--invite {file}: {error.strerror}") from None
    sys.stderr.write(told(f"{file} is for who may bring engines; there: taskrun attach {path.name} -s localhost:4") + "\n")
    return ExitCode.OK
