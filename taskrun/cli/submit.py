"""`taskrun submit`: writes a job script for SLURM, and submits it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from taskrun.engines import job_request
from taskrun.errors import ExitCode, Refused
from taskrun.visible import visible

if TYPE_CHECKING:
    from taskrun.options import Options

MARK = "# Written by `taskrun submit`"
SUM = "# taskrun submit: sha256 "  # of all other lines: what does not match it was edited
SUFFIX = ".sbatch"

#: What every such job has; options on the command line come after these, and win.
DEFAULTS = (
    ("--no-kill", "a node that is lost does not end the job"),
    ("--requeue", "SLURM may start it again: after a preemption, the loss of its first node, the end of its time"),
    ("--open-mode=append", "and its output goes on where it ended"),
    ("--signal=B:USR1@60", "a minute or more before the end, or before a preemption, taskrun asks SLURM again when that is"),
)

_HELP = """\
usage: taskrun submit TASKFILE [options of sbatch] [--dry-run] [--overwrite] [-- options of taskrun]

Writes TASKFILE.sbatch, a job script that runs TASKFILE with taskrun, and submits it. At the end of its time the job is
started again and carries on, until nothing is left to run.

  --dry-run    print the script; write and submit nothing
  --overwrite  replace TASKFILE.sbatch also if it was edited, or not written by this command
  -h, --help   this text

examples:
  taskrun submit tasks.txt -n 20                          20 tasks at a time, wherever SLURM has room
  taskrun submit tasks.txt -N 2 --exclusive -t 4:00:00    two nodes, four hours at a time
  taskrun submit tasks.txt -n 8 --gpus-per-task=1         a GPU for each task
  taskrun submit tasks.txt -n 20 -- -e --fail-fast        with options of taskrun
  taskrun submit -n 20 -- -r tasks.txt_17_status.txt -R   carry on, and try again what failed
"""


def submit(argv: list[str]) -> int:
    """Runs the command with the arguments after its name; returns the exit code. Raises Refused."""
    asked = argv[: argv.index("--")] if "--" in argv else argv
    own = argv[len(asked) + 1 :]
    if "-h" in asked or "--help" in asked:
        sys.stdout.write(_HELP)
        return ExitCode.OK
    dry_run, overwrite = "--dry-run" in asked, "--overwrite" in asked
    words = [word for word in asked if word not in ("--dry-run", "--overwrite")]
    taskfile, options = split(words, resumes="-r" in own or "--resume-from" in own)
    values, of_run = check(taskfile, own)
    groups = grouped(options)
    if job_request.is_array(groups) and not of_run.each_element:
        raise Refused(no_array(taskfile))
    path = Path((Path(taskfile).name if taskfile else "resume") + SUFFIX)
    if taskfile and any(word.startswith(("-D", "--chdir")) for word in options):
        taskfile = str(Path(taskfile).absolute())
    from taskrun.options import without_values

    text = script(taskfile, options, without_values(own), command())
    if not dry_run:
        if shutil.which("sbatch") is None:
            raise Refused("there is no sbatch here: submit where SLURM is, or look at the script with --dry-run")
        write(path, text, overwrite=overwrite)
    if values:
        names = ", ".join(values)
        sys.stderr.write(
            f"taskrun: the script names {names} without a value: sbatch hands it to the job from its environment, here and whenever "
            "the script is submitted again\n"
        )
    if few := job_request.at_a_time(groups, slots=of_run.tasks_per_node, fill=of_run.fill):
        sys.stderr.write(f"taskrun: without -n {few}\n")
    if dry_run:
        sys.stdout.buffer.write(encoded(text))  # a file, whatever this terminal shows
        return ExitCode.OK
    from taskrun.engines import controller

    try:
        sys.stdout.write(visible(controller.submit(path, values), keep="\n"))
    except controller.Unanswered as error:
        raise Refused(f"{path} was not submitted: {error}") from None
    return ExitCode.OK


def split(words: list[str], *, resumes: bool) -> tuple[str, list[str]]:
    """(task file, options of sbatch). The task file is the first word, or the last; '' when a run is carried on. Raises Refused."""
    if words and not words[0].startswith("-"):
        return words[0], words[1:]
    if resumes:
        return "", words
    if len(words) > 1 and not words[-1].startswith("-") and Path(words[-1]).is_file():
        return words[-1], words[:-1]
    raise Refused("which task file? `taskrun submit tasks.txt -n 20`, or `taskrun submit -n 20 -- -r STATUS` to carry on")


def no_array(taskfile: str) -> str:
    """The refusal of --array, with the commands that would work."""
    named = shlex.quote(taskfile) if taskfile else ""
    return (
        "each element of a job array would run the whole task file; submit one job, and when it runs add nodes by an array:\n"
        f"  taskrun submit {f'{named} ' if named else ''}-- -p run\n"
        "  sbatch --array=1-3 --wrap 'exec taskrun attach run'\n"
        "-- --each-element runs the whole file in each element"
    )


def check(taskfile: str, own: list[str]) -> tuple[dict[str, str], Options]:
    """Refuse now what a job would find out after waiting for a day. Raises Refused.

    Returns the variables that --env NAME=VALUE sets here, which stand in no script, and the options of taskrun.
    """
    from taskrun.options import parse

    named, options = parse(["--requeue", *own, *([taskfile] if taskfile else [])])
    if options.hosts:
        raise Refused("-s names hosts, but a job runs on the nodes that SLURM gives it: leave -s out")
    if taskfile == "-":
        raise Refused("- is what is piped in here, and the job runs later: write it to a file first")
    if named is not None:
        from taskrun.driver.source import open_source

        open_source(named, options).lists.close()
    if options.origins.get("env") != "flag":
        return {}, options
    return {name: value for name, equals, value in (item.partition("=") for item in options.env) if equals and name}, options


def command() -> list[str]:
    """The taskrun that the job is to run: this one."""
    program = Path(sys.executable).with_name("taskrun")
    return [str(program)] if os.access(program, os.X_OK) else [sys.executable, "-m", "taskrun"]


def script(taskfile: str, options: list[str], own: list[str], taskrun: list[str]) -> str:
    """The job script."""
    name = Path(taskfile).name.replace("\n", " ") if taskfile else "taskrun"
    lines = ["#!/bin/bash", f"{MARK}; it may be changed, and submitted again with sbatch.", directive(f"--job-name={name}")]
    lines += [f"{directive(option)}  # {why}" for option, why in DEFAULTS]
    lines += [directive(*each) for each in grouped(options)]
    return with_sum("\n".join([*lines, "", shlex.join(["exec", *taskrun, *([taskfile] if taskfile else []), "--requeue", *own]), ""]))


def with_sum(text: str) -> str:
    """The script with a line, its third, that tells whether it was edited since."""
    first, mark, rest = text.split("\n", 2)
    return f"{first}\n{mark}\n{SUM}{digest(encoded(text))}\n{rest}"


def encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def is_unedited(data: bytes) -> bool:
    """Return whether the script is as `with_sum` made it."""
    lines = data.split(b"\n")
    sums = [line for line in lines if line.startswith(SUM.encode())]
    rest = b"\n".join(line for line in lines if not line.startswith(SUM.encode()))
    return sums == [SUM.encode() + digest(rest).encode()]


def directive(*words: str) -> str:
    return f"#SBATCH {shlex.join(words)}"


def grouped(options: list[str]) -> list[list[str]]:
    """Options with their values: `-n 20 --exclusive` -> [-n, 20], [--exclusive]. Raises Refused for what is none."""
    found: list[list[str]] = []
    for word in options:
        if "\n" in word:
            raise Refused(f"{word!r} cannot stand in a job script: it has a line break")
        if word.startswith("-"):
            found.append([word])
        elif not found or len(found[-1]) > 1:
            raise Refused(f"`{word}` is neither an option of sbatch nor the value of one; options of taskrun come after --")
        else:
            found[-1].append(word)
    return found


def write(path: Path, text: str, *, overwrite: bool) -> None:
    """Raises Refused when it cannot be written, or would take the place of what somebody has written or edited."""
    from taskrun.status import durable, opening

    found = None
    try:
        with contextlib.suppress(FileNotFoundError), os.fdopen(opening.to_read(path), "rb") as file:
            found = file.read()
        if found is not None and not overwrite and not is_unedited(found):
            what = "was edited" if SUM.encode() in found else "has no checksum of taskrun"
            raise Refused(
                f"{path} exists and {what}: submit it as it is with sbatch {shlex.quote(f'./{path}')}, or replace it with --overwrite"
            )
        durable.replace_whole(path, encoded(text), 0o750)
    except OSError as error:
        raise Refused(f"{path} cannot be written: {error.strerror}") from None
