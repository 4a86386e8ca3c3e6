"""The option table: each option is declared once; command line, environment, `-r` inheritance and help derive from it."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn

from taskrun import __version__, usage
from taskrun.errors import Refused

ENV_PREFIX = "TASKRUN_OPT_"

RUN, ENGINES, DATA, RESUME, FILES, OTHER = "run", "engines", "data", "resume", "files", "other"
GROUPS = {
    RUN: ("how the run goes", None),
    ENGINES: ("where tasks run", "Without any of these: this machine, one slot per usable core."),
    DATA: ("data (STAGE-IN, STAGE-OUT, ENCRYPT)", None),
    RESUME: ("carry on from an earlier run", None),
    FILES: ("files of the run", None),
    OTHER: ("other", None),
}


class Option(NamedTuple):
    """One option. `name` is also the key in the sidecar and, in capitals, in the environment after TASKRUN_OPT_."""

    name: str
    flags: tuple[str, ...]
    help: str
    group: str
    kind: Callable[[str], Any] | None = str  # None: a switch
    default: Any = None
    metavar: str | None = None
    many: bool = False  # may be given several times
    inherit: bool = False  # `taskrun -r STATUS` takes it from the earlier run
    later: str | None = None  # refused with this sentence until it is built
    choices: tuple[str, ...] | None = None
    needs: tuple[str, ...] = ()  # means nothing without one of these: options, or IN_JOB


def seconds(text: str) -> float:
    """A length of time: seconds, or with a unit (90s, 5m, 2h)."""
    units = {"s": 1.0, "m": 60.0, "h": 3600.0}
    number, unit = (text[:-1], text[-1]) if text[-1:] in units else (text, "s")
    value = float(number) * units[unit]
    if not 0 <= value < 1e9:
        raise ValueError(text)
    return value


def count(text: str) -> int:
    """A whole number from 0 on."""
    value = int(text)
    if value < -1:
        raise ValueError(text)
    return value


def silence(text: str) -> float:
    """A length of time from 1 s on: what lives is heard from several times in it."""
    value = seconds(text)
    if value < 1:
        raise ValueError(text)
    return value


def file_mode(text: str) -> str:
    """The mode of a file in octal, as four digits: for its owner to read and write, for others at most to read."""
    value = int(text, 8)
    if value & 0o600 != 0o600 or value & ~0o644:
        raise ValueError(text)
    return f"{value:04o}"


def at_least_one(text: str) -> int:
    """A whole number from 1 on."""
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def natural(text: str) -> int:
    """A whole number from 0 on."""
    value = int(text)
    if value < 0:
        raise ValueError(text)
    return value


def factor(text: str) -> float:
    """A number from 0 on."""
    value = float(text)
    if not 0 <= value < 1e6:
        raise ValueError(text)
    return value


def rate(text: str) -> int:
    """Bytes a second, as 500k, 10M or 1.5G: powers of 1024, as rclone has them."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmMgG]?)(?:i?[bB])?(?:/s)?", text)
    value = int(float(found[1]) * 1024 ** " kmg".index(found[2].lower() or " ")) if found else 0
    if not 0 < value < 1 << 50:
        raise ValueError(text)
    return value


#: What the value of an option is to be, by its kind.
_WANTED: dict[Callable[[str], Any], str] = {
    seconds: "length of time as 90s, 5m or 2h",
    silence: "length of time from 1s on",
    count: "whole number from 0 on",
    natural: "whole number from 0 on",
    at_least_one: "whole number from 1 on",
    factor: "number from 0 on",
    rate: "number of bytes a second as 500k, 10M or 1.5G",
    file_mode: "mode that lets you read and write and others at most read, as 0600, 0640 or 0644",
    float: "number",
}

_KVS = "there is no key-value server in taskrun: engines join with -s"

IN_JOB = "SLURM_JOB_ID"  # a job that SLURM starts again carries on without -r

OPTIONS = (
    Option("exit_code", ("-e", "--exit-code"), "exit with 1 if any task failed", RUN, kind=None, inherit=True),
    Option(
        "fail_fast",
        ("-f", "--fail-fast"),
        "stop at the first failure: start nothing new, end what runs; exit 1",
        RUN,
        kind=None,
        inherit=True,
    ),
    Option(
        "grace",
        ("--grace",),
        "time from TERM to KILL when tasks are ended (default 5s)",
        RUN,
        kind=seconds,
        default=5.0,
        metavar="TIME",
        inherit=True,
    ),
    Option(
        "stopped_ok",
        ("--stopped-ok",),
        "a task that is told to end and ends with 0 is done (default: it runs again on resume)",
        RUN,
        kind=None,
        inherit=True,
    ),
    Option(
        "leftovers",
        ("--leftovers",),
        "what a task leaves running: keep (default), end them, or fail: end them, and a task that ended with 0 has failed (76)",
        RUN,
        default="keep",
        choices=("keep", "end", "fail"),
        inherit=True,
    ),
    Option(
        "ignore_unknown",
        ("--ignore-unknown",),
        "take unknown #DISBATCH lines as disBatch does, with a warning",
        RUN,
        kind=None,
        inherit=True,
    ),
    Option("strict", ("--strict",), "take warnings about the task file as errors: exit 2, run nothing", RUN, kind=None, inherit=True),
    Option("dry_run", ("--dry-run",), "show what would run, expanded, and why (run, skip, retry, left); run nothing", RUN, kind=None),
    Option("quiet", ("-q", "--quiet"), "no progress and no summary, only errors", RUN, kind=None),
    Option(
        "hosts",
        ("-s", "--ssh-node"),
        "hosts and their cores, `localhost:8` (or `8`), `me@gpu01:4`, `node[01-16]:8`; several with commas or again",
        ENGINES,
        metavar="HOST:COUNT",
        many=True,
        inherit=True,
    ),
    Option(
        "cpus_per_task",
        ("-c", "--cpusPerTask"),
        "cores a task needs, may be a fraction (default 1)",
        ENGINES,
        kind=float,
        default=-1.0,
        metavar="X",
        inherit=True,
    ),
    Option(
        "tasks_per_node",
        ("-t", "--tasksPerNode"),
        "slots of each engine, whatever its cores",
        ENGINES,
        kind=count,
        default=-1,
        metavar="N",
        inherit=True,
    ),
    Option(
        "task_limit",
        ("-C", "--context-task-limit"),
        "attempts these engines take before they stop",
        ENGINES,
        kind=count,
        default=0,
        metavar="N",
        inherit=True,
    ),
    Option("label", ("-l", "--label"), "name of these engines in logs and views", ENGINES, metavar="LABEL", inherit=True),
    Option(
        "ssh",
        ("--ssh",),
        "reach other hosts by this program, e.g. `ssh -p 2222`, instead of the built-in SSH",
        ENGINES,
        metavar="COMMAND",
        inherit=True,
    ),
    Option(
        "workdir",
        ("--workdir",),
        "where tasks run on hosts that do not share this folder; made there if need be",
        ENGINES,
        metavar="DIR",
        inherit=True,
    ),
    Option(
        "env",
        ("--env",),
        "carry this variable to other hosts; NAME=VALUE sets one on all, and other users see it in the list of processes; may be repeated",
        ENGINES,
        metavar="NAME",
        many=True,
        inherit=True,
    ),
    Option("require_all", ("--require-all",), "start nothing unless every host can be used", ENGINES, kind=None, inherit=True),
    Option(
        "fill",
        ("--fill",),
        "SLURM: as many slots as the job's cores allow, not as many as SLURM has tasks",
        ENGINES,
        kind=None,
        inherit=True,
    ),
    Option(
        "task_time",
        ("--task-time",),
        "how long a task takes: where the allocation ends sooner none is started (default: what 19 of 20 took)",
        ENGINES,
        kind=seconds,
        metavar="TIME",
        inherit=True,
    ),
    Option(
        "retire_cmd",
        ("--retire-cmd",),
        "run this when nodes have nothing more to do, with NODE, NODES, ACTIVE, RETIRED, RETCODES, DRIVER_NODE (SLURM: give them back)",
        ENGINES,
        metavar="CMD",
        inherit=True,
    ),
    Option(
        "requeue",
        ("--requeue",),
        "SLURM: when the job's time is over start the job again, until nothing is left",
        ENGINES,
        kind=None,
    ),
    Option(
        "restarts",
        ("--restarts",),
        "SLURM: with --requeue, how many times at most the job is started again (default 100)",
        ENGINES,
        kind=natural,
        default=100,
        metavar="N",
        needs=("requeue",),
    ),
    Option("each_element", ("--each-element",), "SLURM: run the whole file in every element of a job array", ENGINES, kind=None),
    Option(
        "no_comment",
        ("--no-comment",),
        "SLURM: leave the job's comment alone, which otherwise tells how far the run is",
        ENGINES,
        kind=None,
        inherit=True,
    ),
    Option("no_retire", ("--no-retire",), "keep all nodes until the end", ENGINES, kind=None, inherit=True),
    Option(
        "gpu",
        ("-g", "--gpu"),
        "divide the GPUs of a node among its slots, at least one for each (CUDA_VISIBLE_DEVICES and the like)",
        ENGINES,
        kind=None,
        inherit=True,
    ),
    Option(
        "env_resource",
        ("-E", "--env-resource"),
        "divide this variable's list among the slots, one element each; several with commas or again",
        ENGINES,
        metavar="VAR",
        many=True,
        inherit=True,
    ),
    Option(
        "starter",
        ("--starter",),
        "what starts slots: GNU Parallel where it is there (auto), or the built-in starter",
        ENGINES,
        default="auto",
        choices=("auto", "parallel", "builtin"),
        inherit=True,
    ),
    Option(
        "lost_after",
        ("--lost-after",),
        "silence after which an engine is lost and its tasks run elsewhere (default 180s)",
        ENGINES,
        kind=silence,
        default=180.0,
        metavar="TIME",
        inherit=True,
    ),
    Option(
        "sick_after",
        ("--sick-after",),
        "set a host aside when so many of its tasks in a row failed within seconds while others succeed elsewhere (default 5; 0: never)",
        ENGINES,
        kind=natural,
        default=5,
        metavar="N",
        inherit=True,
    ),
    Option(
        "wait_for_engines",
        ("--wait-for-engines",),
        "how long to wait when no engine is left (default: local 0, else 300s)",
        ENGINES,
        kind=seconds,
        metavar="TIME",
        inherit=True,
    ),
    Option(
        "transfers",
        ("--transfers",),
        "files moved at a time (default 4)",
        DATA,
        kind=at_least_one,
        default=4,
        metavar="N",
        inherit=True,
    ),
    Option(
        "bwlimit",
        ("--bwlimit",),
        "bytes a second of all transfers of the driver together, as 500k, 10M or 1.5G (default as fast as they go)",
        DATA,
        kind=rate,
        default=0,
        metavar="RATE",
        inherit=True,
    ),
    Option(
        "transfer_tries",
        ("--transfer-tries",),
        "how often a file is tried that fails for a reason that may pass (default 8, over three quarters of a minute and the timeouts)",
        DATA,
        kind=at_least_one,
        default=8,
        metavar="N",
        inherit=True,
    ),
    Option(
        "settle",
        ("--settle",),
        "time without a change after which an output is complete (default 2s)",
        DATA,
        kind=seconds,
        default=2.0,
        metavar="TIME",
        inherit=True,
    ),
    Option(
        "writers_wait",
        ("--writers-wait",),
        "time that an output is waited for while a process writes to it or it changes (default 60s); then it is not delivered",
        DATA,
        kind=seconds,
        default=60.0,
        metavar="TIME",
        inherit=True,
    ),
    Option(
        "no_replace",
        ("--no-replace",),
        "what is moved replaces no file that this run did not bring",
        DATA,
        kind=None,
        inherit=True,
    ),
    Option(
        "workfactor",
        ("--workfactor",),
        "free space a stage-in needs, times its size (default 2)",
        DATA,
        kind=factor,
        default=2.0,
        metavar="X",
        inherit=True,
    ),
    Option("rclone_config", ("--rclone-config",), "rclone's configuration, for remote:path", DATA, metavar="FILE", inherit=True),
    Option(
        "passphrase_file",
        ("--passphrase-file",),
        "file with the passphrase of the gpg key, readable by you alone",
        DATA,
        metavar="FILE",
        inherit=True,
    ),
    Option(
        "checksum_file",
        ("--checksum-file",),
        "write SHA256SUMS beside what is delivered, and verify what is fetched by the one beside it",
        DATA,
        kind=None,
        inherit=True,
    ),
    Option(
        "clean",
        ("--clean",),
        "what is removed here at the end of what is safe elsewhere: keep nothing removed (default), output, encrypted, all",
        DATA,
        default="keep",
        choices=("keep", "output", "encrypted", "all"),
        inherit=True,
    ),
    Option(
        "stage_on_engine",
        ("--stage-on-engine",),
        "hosts of -s and SLURM that do not share the folder move files of s3:// (by presigned URLs) and remote: (rclone is told its keys)",
        DATA,
        kind=None,
        inherit=True,
    ),
    Option(
        "resume_from",
        ("-r", "--resume-from"),
        "status file of an earlier run: what it records as ended is not run again; may be repeated",
        RESUME,
        metavar="STATUS",
        many=True,
    ),
    Option("retry", ("-R", "--retry"), "with -r: run those that failed again", RESUME, kind=None, needs=("resume_from",)),
    Option(
        "match",
        ("--match",),
        "with -r: find tasks by their id (default), or by their command when lines were added, removed or moved",
        RESUME,
        default="id",
        choices=("id", "command"),
        needs=("resume_from",),
    ),
    Option(
        "force_resume",
        ("--force-resume",),
        "with -r: go on although the task file was changed",
        RESUME,
        kind=None,
        needs=("resume_from", IN_JOB),
    ),
    Option("append", ("--append",), "with -r: continue its status file instead of a new one", RESUME, kind=None, needs=("resume_from",)),
    Option(
        "trust_records",
        ("--trust-records",),
        "with -r: believe files of the earlier run that others own or can write to, and do what they say",
        RESUME,
        kind=None,
        needs=("resume_from", IN_JOB),
    ),
    Option(
        "as_is",
        ("--as-is",),
        "with -r: go on with what was read of a stream that had not ended",
        RESUME,
        kind=None,
        needs=("resume_from",),
    ),
    Option(
        "take_over",
        ("--take-over",),
        "take the lock of a run on another host that is known to be dead; pass socket names of it of which the holder is unknown",
        RESUME,
        kind=None,
    ),
    Option(
        "prefix",
        ("-p", "--prefix"),
        "path that the names of all files of the run begin with (default TASKFILE_JOBID here; with -r that of the earlier run and .2)",
        FILES,
        metavar="PATH",
    ),
    Option(
        "file_mode",
        ("--file-mode",),
        "mode of the run's files, in octal, less what the umask takes (default 0640; 0644: all can read your commands)",
        FILES,
        kind=file_mode,
        default="0640",
        metavar="MODE",
        inherit=True,
    ),
    Option("status_header", ("--status-header",), "begin the status file with the names of its columns", FILES, kind=None, inherit=True),
    Option("logfile", ("--logfile",), "the driver's log (default PREFIX_driver.log)", FILES, metavar="FILE"),
    Option(
        "loglevel",
        ("--loglevel",),
        "how much goes to it (default INFO)",
        FILES,
        default="INFO",
        choices=("CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG"),
        inherit=True,
    ),
    Option(
        "startup_only",
        ("-S", "--startup-only"),
        "start no engine; wait for contexts that attach",
        ENGINES,
        kind=None,
    ),
    Option(
        "use_address",
        ("--use-address", "--listen"),
        "where `taskrun attach` finds this run: HOST:PORT, HOST, :PORT (all interfaces), or `off` (default: this host's name, any port)",
        ENGINES,
        metavar="H:P",
        inherit=True,
    ),
    Option(
        "taskcommand",
        ("--taskcommand",),
        "",
        OTHER,
        metavar="CMD",
        later="tasks from a program (--taskcommand) are not there yet: pipe its lines into `taskrun -`",
    ),
    Option(
        "taskserver",
        ("--taskserver",),
        "",
        OTHER,
        metavar="H:P",
        later="tasks from a server (--taskserver) are not there yet: pipe lines into `taskrun -`",
    ),
    Option(
        "mail_to", ("--mailTo",), "", OTHER, metavar="ADDRESS", later="mail (--mailTo) is not there yet: put `; mail …` behind the command"
    ),
    Option("mail_freq", ("--mailFreq",), "", OTHER, metavar="N", later="mail (--mailFreq) is not there yet"),
    Option("web", ("-w", "--web"), "", OTHER, kind=None, later="a web page (-w) is not there yet"),
    Option("kvsserver", ("--kvsserver",), "", OTHER, metavar="H:P", later=_KVS),
)

#: The name of a variable in a shell, and the name under which bash exports a function.
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|BASH_FUNC_[^=%]+%%")

VALUED = "valued"  # key of --env in the sidecar: names that were given with a value

BY_NAME = {option.name: option for option in OPTIONS}


class Options:
    """The options of one run, each with its origin: flag, environment, inherited or default."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {option.name: [] if option.many else default_of(option) for option in OPTIONS}
        self.origins: dict[str, str] = {}

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["values"][name]
        except KeyError:
            raise AttributeError(name) from None

    def set(self, name: str, value: Any, origin: str) -> None:
        self.values[name] = value
        self.origins[name] = origin

    def given(self) -> dict[str, dict[str, Any]]:
        """Return what the sidecar keeps: every option that is not at its default, with its origin. Of --env the names alone."""
        kept = {name: {"value": self.values[name], "origin": origin} for name, origin in sorted(self.origins.items())}
        if "env" in kept:
            kept["env"] |= {"value": [_without_value(item) for item in self.env], VALUED: self.valued()}
        return kept

    def valued(self) -> list[str]:
        """The variables that were given as --env NAME=VALUE: whoever carries the run on has to give them again."""
        return [_without_value(item) for item in self.env if "=" in item]

    def inherit(self, earlier: Mapping[str, Any]) -> None:
        """Take from an earlier run's sidecar what this command line does not say itself. Raises Refused if that can be no value."""
        for name, entry in earlier.items():
            option = BY_NAME.get(name)
            if option is not None and option.inherit and (name not in self.origins or name == "env"):
                value = entry.get("value") if isinstance(entry, dict) else None
                if not _fits(option, value):
                    raise Refused(f"the earlier run's {option.flags[-1]} has a value it cannot have: its sidecar is damaged; give it again")
                if name == "env":
                    value = self._with_earlier_variables(entry)
                self.set(name, value, self.origins.get(name, "inherited"))

    def _with_earlier_variables(self, earlier: dict[str, Any]) -> list[str]:
        """--env of an earlier run, as the sidecar has it, and of this one, which wins. Raises Refused where a value is not kept."""
        valued = earlier.get(VALUED)
        own = split_variables(self.env)
        here = {_without_value(item) for item in own}
        missing = [name for name in valued if name not in here] if isinstance(valued, list) else []
        if missing:
            raise Refused(
                f"the earlier run was given {', '.join(f'--env {name}=VALUE' for name in missing)}, and values are kept nowhere: "
                f"give it again, or {' '.join(f'--env {name}' for name in missing)} to take it from this environment"
            )
        return [item for item in split_variables(earlier["value"]) if _without_value(item) not in here] + own


def split_variables(wanted: list[str]) -> list[str]:
    """The items of --env, each NAME or NAME=VALUE. Without any value several may stand in one, with commas."""
    items = wanted if any("=" in item for item in wanted) else ",".join(wanted).split(",")
    return [item.strip() for item in items if item.strip()]


def check_variables(wanted: list[str]) -> None:
    """Raises Refused when an item of --env names none."""
    for name in map(_without_value, split_variables(wanted)):
        if not name:
            raise Refused("--env =VALUE: the name is missing; write --env NAME=VALUE")
        if not _VARIABLE.fullmatch(name):
            raise Refused(f"--env {name}: this is no name of a variable, which has letters, digits and _, and no digit first")


def without_values(argv: list[str]) -> list[str]:
    """The words of a command line as others may read them: `--env NAME` for `--env NAME=VALUE`."""
    (flag,) = BY_NAME["env"].flags
    shown = []
    for word, before in zip(argv, ["", *argv], strict=False):
        if before == flag:
            shown.append(_without_value(word))
        elif word.startswith(flag + "="):
            shown.append(f"{flag}={_without_value(word.removeprefix(flag + '='))}")
        else:
            shown.append(word)
    return shown


def _without_value(item: str) -> str:
    return item.partition("=")[0].strip()


def _fits(option: Option, value: Any) -> bool:
    """Whether it is a value that the command line could have given."""
    if option.kind is None:
        return isinstance(value, bool)
    if option.many:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if option.kind is str or option.choices:
        return isinstance(value, str) and (option.choices is None or value in option.choices)
    if not isinstance(value, int | float | str) or isinstance(value, bool):
        return False
    try:
        return bool(option.kind(str(value)) == value)
    except ValueError:
        return False


def default_of(option: Option) -> Any:
    return False if option.kind is None else option.default


class Parser(argparse.ArgumentParser):
    """argparse with errors in our form: one sentence, exit 2."""

    def error(self, message: str) -> NoReturn:
        raise Refused(f"{message}{self._meant(message)} (see {self.prog} --help)")

    def _print_message(self, message: str, file: Any = None) -> None:
        """Print help; argparse would swallow an error."""
        try:
            (file or sys.stderr).write(message)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise Refused(f"standard output: {os.strerror(error.errno or 0)}") from None

    def _meant(self, message: str) -> str:
        """A hint for a misspelt option."""
        wrong = next((word for word in message.split() if word.startswith("--")), "")
        if not message.startswith("unrecognized") or not wrong:
            return ""
        from difflib import get_close_matches  # only for a mistake

        near = get_close_matches(wrong.partition("=")[0], self._option_string_actions, 1, 0.7)
        return f"; did you mean {near[0]}?" if near else ""


def _formatter(prog: str) -> argparse.HelpFormatter:
    """As wide as the terminal. argparse would ask shutil for that at every option it adds, 15 ms in all."""
    try:
        width = os.get_terminal_size(1).columns
    except OSError:
        width = 80
    return argparse.RawDescriptionHelpFormatter(prog, width=min(width, 120) - 2)


def parser() -> Parser:
    made = Parser(
        prog="taskrun",
        usage=usage.USAGE,
        description=usage.DESCRIPTION,
        epilog=usage.EPILOG,
        formatter_class=_formatter,
        add_help=False,
    )
    made.add_argument("taskfile", nargs="?", metavar="TASKFILE", help=argparse.SUPPRESS)  # the description has it
    groups = {name: made.add_argument_group(title, text) for name, (title, text) in GROUPS.items()}
    for option in OPTIONS:
        _add(groups[option.group], option)
    groups[OTHER].add_argument("-h", "--help", action="help", help="this text")
    groups[OTHER].add_argument("--version", action="version", version=__version__, help="the version")
    return made


def _add(group: argparse._ActionsContainer, option: Option) -> None:
    if option.later:  # with its value or without
        group.add_argument(*option.flags, dest=option.name, nargs="?", const="", help=argparse.SUPPRESS)
    elif option.kind is None:
        group.add_argument(*option.flags, dest=option.name, action="store_const", const=True, help=option.help)
    else:
        group.add_argument(
            *option.flags,
            dest=option.name,
            type=_reading(option.kind),
            action="append" if option.many else "store",
            choices=option.choices,
            metavar=option.metavar,
            help=option.help,
        )


def _reading(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    """`kind` with an error that says what is wanted."""

    def read(text: str) -> Any:
        try:
            return kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"`{text}` is no {_WANTED[kind]}") from None

    return read


#: Of options that mean something else to who finds a run than to the run.
_TO_A_RUN = {
    "use_address": "HOST:PORT where the run can be reached from here (default: as the run says)",
}


def command_parser(name: str, usage: str, description: str, chosen: tuple[str, ...], epilog: str = "") -> Parser:
    """For a subcommand that has some of the options. `usage`: what comes after its name."""
    made = Parser(
        prog=f"taskrun {name}",
        usage=f"taskrun {name} {usage}",
        description=description,
        epilog=epilog,
        formatter_class=_formatter,
        add_help=False,
    )
    for option in chosen:
        _add(made, BY_NAME[option]._replace(help=_TO_A_RUN.get(option, BY_NAME[option].help)))
    made.add_argument("-h", "--help", action="help", help="this text")
    return made


def parse_command(made: Parser, argv: list[str], chosen: tuple[str, ...]) -> tuple[argparse.Namespace, Options]:
    """(all arguments, those of the table) of a subcommand's command line; the environment first. Raises Refused."""
    return _parse(made, argv, tuple(BY_NAME[name] for name in chosen), os.environ)


def parse(argv: list[str], environ: Mapping[str, str] | None = None) -> tuple[str | None, Options]:
    """(task file, options) of a command line; the environment's TASKRUN_OPT_* first. Raises Refused."""
    namespace, options = _parse(parser(), argv, OPTIONS, os.environ if environ is None else environ)
    return namespace.taskfile, options


def _parse(made: Parser, argv: list[str], chosen: tuple[Option, ...], environ: Mapping[str, str]) -> tuple[argparse.Namespace, Options]:
    options = Options()
    for option in chosen:
        variable = ENV_PREFIX + option.name.upper()
        if variable in environ and not option.later:
            options.set(option.name, _from_environment(option, variable, environ[variable]), "environment")
    namespace = made.parse_args(argv)
    for option in chosen:
        value = getattr(namespace, option.name)
        if value is None:
            continue
        if option.later:
            raise Refused(option.later)
        options.set(option.name, value, "flag")
    check_variables(options.env)
    _check_needs(options, environ)
    return namespace, options


def _check_needs(options: Options, environ: Mapping[str, str]) -> None:
    """Raises Refused when an option was typed that means nothing without another: what its author thinks would not happen."""
    for option in OPTIONS:
        if option.needs and options.origins.get(option.name) == "flag":
            if any(each in options.origins or each in environ for each in option.needs):
                continue
            needed = BY_NAME[option.needs[0]]
            words = [needed.flags[0], needed.metavar or "", option.flags[0], str(options.values[option.name]) if option.kind else ""]
            raise Refused(f"{option.flags[0]} means nothing without {needed.flags[0]}: write {' '.join(filter(None, words))}")


def _from_environment(option: Option, variable: str, text: str) -> Any:
    if option.kind is None:
        return text.lower() not in ("", "0", "no", "false", "off")
    try:
        value = option.kind(text)
    except ValueError:
        value = None
    if value is None or (option.choices and value not in option.choices):
        raise Refused(f"{variable}: `{text}` is not a value for {option.flags[-1]}")
    return [value] if option.many else value
