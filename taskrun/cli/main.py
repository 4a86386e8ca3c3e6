"""argv to one command, its exit code, and the one place where a handled error is printed."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable

from taskrun.cli.streams import make_usable
from taskrun.errors import ExitCode, Handled, RecordsFailed, Refused, told
from taskrun.visible import line_of

#: Subcommands by name; everything else is a run. A task file of such a name is `./check`.
COMMANDS = {
    "attach": "taskrun.cli.attach:attach",
    "check": "taskrun.cli.check:check",
    "completion": "taskrun.cli.completion:completion",
    "detach": "taskrun.cli.detach:detach",
    "monitor": "taskrun.cli.monitor:monitor",
    "hosts": "taskrun.cli.hosts:hosts",
    "run": "taskrun.cli.run:run",
    "submit": "taskrun.cli.submit:submit",
}


def main(argv: list[str] | None = None) -> int:
    """The `taskrun` command."""
    try:
        make_usable()
        code: int | None = _front() if argv is None else None
    except OSError as error:
        _complain(_lack(error) or _no_null(error))
        return ExitCode.REFUSED
    if code is not None:
        return code
    code = ExitCode.REFUSED
    ending: BaseException | None = None
    try:
        code = _main(sys.argv[1:] if argv is None else argv)
    except (OSError, SystemExit) as error:  # --help and --version end so
        ending = error
    failure = _flush()
    if failure is not None:
        _complain(f"standard output: {os.strerror(failure.errno or 0)}")
        return code or ExitCode.REFUSED
    if ending is not None:
        raise ending
    return code


def _front() -> int | None:
    """The exit code of a run on a terminal, in the process that the shell stops with Ctrl-Z; None in the one that does the work."""
    arguments = sys.argv[1:]
    if arguments and arguments[0] in COMMANDS and arguments[0] not in ("attach", "run"):
        return None
    if not (os.isatty(2) or os.isatty(0)) or not {"-h", "--help", "--version", "--dry-run"}.isdisjoint(arguments):
        return None
    from taskrun.cli.front import split

    return split(arguments)


def _main(arguments: list[str]) -> int:
    try:
        if arguments and arguments[0] in COMMANDS:
            return int(_load(COMMANDS[arguments[0]])(arguments[1:]))
        _no_misspelt_command(arguments)
        return int(_load(COMMANDS["run"])(arguments))
    except RecordsFailed as error:
        sys.stderr.write(error.told + "\n")
        for line in getattr(error, "lines", ()):  # records that could be saved nowhere
            if sys.stderr.isatty():
                sys.stderr.write(line_of(line))
            else:
                sys.stderr.buffer.write(line)
        return error.exit_code
    except Handled as error:
        sys.stderr.write(error.told + "\n")
        return error.exit_code
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        return ExitCode.OK  # the reader of our output has gone (`| head`): nothing is wrong
    except (MemoryError, ImportError, OSError) as error:
        lack = _lack(error)
        if not lack:
            raise
        error.__traceback__ = None  # what its frames hold may be all the memory there is
    began = "taskrun.driver.drive" in sys.modules
    text = f"{lack}; a run that had begun is carried on with -r" if began else lack
    try:
        _complain(text)
    except MemoryError:
        os.write(2, b"taskrun: no memory is left: raise `ulimit -v`; a run that had begun is carried on with -r\n")
    return ExitCode.STOPPED if began else ExitCode.REFUSED


def _lack(error: Exception) -> str:
    """Return what the surroundings lack that made this error, and the next step; '' if it is another one. Imports nothing."""
    number, text = getattr(error, "errno", None), str(error)
    if number in (errno.EMFILE, errno.ENFILE) or os.strerror(errno.EMFILE) in text:
        return "no descriptor is left: raise `ulimit -n`"
    if isinstance(error, MemoryError) or number == errno.ENOMEM or (isinstance(error, ImportError) and "shared object" in text):
        return "no memory is left: raise `ulimit -v`"
    try:
        os.getcwd()  # noqa: PTH109 - pathlib is not needed for this
    except OSError as gone:
        return f"the working directory is gone ({os.strerror(gone.errno or 0)}): change to one that exists"
    return ""


def _no_null(error: OSError) -> str:
    what = os.strerror(error.errno or 0)
    return f"{os.devnull} cannot be opened ({what}), which no run can do without: have root make it, `mknod -m 666 {os.devnull} c 1 3`"


def _no_misspelt_command(arguments: list[str]) -> None:
    """Raises Refused for a first word that is nearly a command, and no file."""
    if arguments and not arguments[0].startswith("-") and not os.path.lexists(arguments[0]):
        from difflib import get_close_matches  # only for a mistake

        near = get_close_matches(arguments[0], COMMANDS, 1, 0.75)
        if near:
            raise Refused(f"{arguments[0]}: no such file; did you mean the command `taskrun {near[0]}`?")


def _flush() -> OSError | None:
    """What is printed last, before Python does it: there a reader that has gone is an error. What else has gone wrong."""
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return None if isinstance(error, BrokenPipeError) else error
    return None


def _complain(text: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(told(text) + "\n")


def _load(where: str) -> Callable[[list[str]], int]:
    module, _, name = where.partition(":")
    return getattr(__import__(module, fromlist=[name]), name)  # type: ignore[no-any-return]
