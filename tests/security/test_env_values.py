"""Values of --env NAME=VALUE are secrets of the person: no file of the run holds one, and no other process has one in its command line."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from attach.meeting import Meeting, gated
from cli.test_requeue import AGAIN, FIRST, killed
from harness import Result, Taskrun

from taskrun.driver.contexts import carried_environment
from taskrun.errors import Refused
from taskrun.options import Options, check_variables, parse, without_values

SECRET = f"sesame-{os.getpid()}"
#: Counts the processes with the secret in their command line; in a bracket, so that its own has it not.
COUNT = f"grep -lsa 'sesam[e]-{os.getpid()}' /proc/[0-9]*/cmdline | wc -l > seen; false\n"
REFUSED = (
    "the earlier run was given --env TOKEN=VALUE, and values are kept nowhere: "
    "give it again, or --env TOKEN to take it from this environment"
)


def holding(folder: Path) -> list[str]:
    """Files with the secret."""
    return [path.name for path in folder.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


def first(taskrun: Taskrun, *arguments: str, env: dict[str, str] | None = None) -> Result:
    result = taskrun("tasks.txt", "-p", "run", "-s", "localhost:1", *arguments, files={"tasks.txt": COUNT}, env=env)
    assert result.code == 0, result.err
    return result


@pytest.mark.parametrize(
    ("argv", "shown"),
    [
        (["--env", "A=b"], ["--env", "A"]),
        (["--env=A=b=c"], ["--env=A"]),
        (["tasks.txt", "--env", "A", "--env", "", "-E", "B=c"], ["tasks.txt", "--env", "A", "--env", "", "-E", "B=c"]),
        (["--env"], ["--env"]),
    ],
)
def test_a_command_line_without_values(argv: list[str], shown: list[str]) -> None:
    assert without_values(argv) == shown


@pytest.mark.parametrize("flags", [("--env", f"TOKEN={SECRET}"), (f"--env=TOKEN={SECRET}",), ("--env", "HOME", "--env", f"TOKEN={SECRET}")])
def test_no_file_and_no_other_process_has_it(taskrun: Taskrun, flags: tuple[str, ...]) -> None:
    result = first(taskrun, "--loglevel", "DEBUG", *flags)
    assert (taskrun.folder / "seen").read_text() == "1\n"  # the run itself, as the person wrote it
    assert (holding(taskrun.folder), SECRET in result.err) == ([], False)
    assert "taskrun -r run_status.txt -R --env TOKEN\n" in result.err
    kept = json.loads((taskrun.folder / "run_run.json").read_text())
    assert kept["options"]["env"] == {"value": [*(["HOME"] if "HOME" in flags else []), "TOKEN"], "origin": "flag", "valued": ["TOKEN"]}


def test_nor_if_it_was_given_by_the_environment(taskrun: Taskrun) -> None:
    result = first(taskrun, env={"TASKRUN_OPT_ENV": f"TOKEN={SECRET}"})
    assert (taskrun.folder / "seen").read_text() == "0\n"
    assert (holding(taskrun.folder), SECRET in result.err) == ([], False)
    assert taskrun("-r", "run_status.txt", env={"TASKRUN_OPT_ENV": f"TOKEN={SECRET}"}).code == 0
    assert taskrun("-r", "run_status.txt").code == 2


def test_a_resume_asks_for_it(taskrun: Taskrun) -> None:
    first(taskrun, "--env", f"TOKEN={SECRET}", "--env", "HOME")
    refused = taskrun("-r", "run_status.txt", "-R")
    assert (refused.code, refused.err) == (2, f"taskrun: {REFUSED}\n")
    refused = taskrun("-r", "run_status.txt", "-R", "--env", "OTHER=x")
    assert (refused.code, refused.err) == (2, f"taskrun: {REFUSED}\n")
    again = taskrun("-r", "run_status.txt", "-p", "again", "--env", f"TOKEN={SECRET}")
    assert again.code == 0, again.err
    third = taskrun("-r", "again_status.txt", "-p", "third", "--env", "TOKEN", env={"TOKEN": SECRET})
    assert third.code == 0, third.err
    assert taskrun("-r", "third_status.txt", env={"TOKEN": SECRET}).code == 0  # it is inherited by its name
    assert holding(taskrun.folder) == []
    for name in ("again", "third"):
        assert json.loads((taskrun.folder / f"{name}_run.json").read_text())["options"]["env"]["value"] == ["HOME", "TOKEN"]


def test_variables_of_the_earlier_run_that_are_not_given_again_stay() -> None:
    _, options = parse(["-r", "x_status.txt", "--env", "B=2,3"], {})
    options.inherit({"env": {"value": ["A,B", "C"], "origin": "flag", "valued": ["B"]}})
    assert carried_environment(options.env, {"A": "1", "C": "4"}) == {"A": "1", "B": "2,3", "C": "4"}


def test_the_sidecar_of_an_older_version_has_values(taskrun: Taskrun) -> None:
    """Old values are used, and go no further."""
    first(taskrun, "--env", "TOKEN=x")
    path = taskrun.folder / "run_run.json"
    kept = json.loads(path.read_text())
    kept["options"]["env"] = {"value": ["HOME", f"TOKEN={SECRET}"], "origin": "flag"}
    path.write_text(json.dumps(kept))
    options = Options()
    options.inherit(kept["options"])
    assert carried_environment(options.env, {"HOME": "/h"}) == {"HOME": "/h", "TOKEN": SECRET}
    assert taskrun("-r", "run_status.txt", "-p", "again").code == 0
    assert holding(taskrun.folder) == ["run_run.json"]
    assert taskrun("-r", "again_status.txt").code == 2


def test_damaged_names_are_refused_or_passed_over() -> None:
    for valued in ("TOKEN", {"TOKEN": 1}, 3):
        Options().inherit({"env": {"value": ["A"], "origin": "flag", "valued": valued}})
    with pytest.raises(Refused, match="its sidecar is damaged"):
        Options().inherit({"env": {"value": "TOKEN", "origin": "flag"}})


def test_a_name_without_its_value_is_not_repeated() -> None:
    with pytest.raises(Refused) as caught:
        check_variables([f"={SECRET}"])
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_requeued_job_recognises_itself(taskrun: Taskrun, number: int) -> None:
    killed(taskrun, "--env", f"TOKEN={SECRET}", number=number)
    assert holding(taskrun.folder) == []
    result = taskrun("tasks.txt", "-s", "localhost:1", "--env", f"TOKEN={SECRET}", env=AGAIN)
    assert result.code == 0, result.err
    assert "SLURM has started this job again: it goes on with tasks.txt_77_status.txt" in result.err
    assert len(list(taskrun.folder.glob("*_status.txt"))) == 1


def test_a_requeued_job_recognises_what_an_older_version_wrote(taskrun: Taskrun) -> None:
    killed(taskrun, "--env", f"TOKEN={SECRET}", env=FIRST)
    path = taskrun.folder / "tasks.txt_77_run.json"
    path.write_text(path.read_text().replace(' "--env",\n  "TOKEN"', f' "--env",\n  "TOKEN={SECRET}"'))
    assert holding(taskrun.folder) == [path.name]
    result = taskrun("tasks.txt", "-s", "localhost:1", "--env", f"TOKEN={SECRET}", env=AGAIN)
    assert (result.code, len(list(taskrun.folder.glob("*_status.txt")))) == (0, 1)


def test_a_job_script_names_it_and_the_job_has_it(taskrun: Taskrun) -> None:
    sbatch = taskrun.folder / "bin" / "sbatch"
    taskrun.write({"bin/sbatch": "#!/bin/sh\necho $# $TOKEN\n"})
    sbatch.chmod(0o755)
    taskrun.env["PATH"] = f"{sbatch.parent}:{taskrun.env['PATH']}"
    arguments = ("-n", "2", "--", "--env", f"TOKEN={SECRET}", "-e")
    shown = taskrun("submit", "tasks.txt", "--dry-run", *arguments, files={"tasks.txt": "true\n"})
    assert (shown.code, SECRET in shown.out) == (0, False)
    assert shown.out.endswith(" tasks.txt --requeue --env TOKEN -e\n")
    done = taskrun("submit", "tasks.txt", *arguments)
    assert (done.code, done.out) == (0, f"1 {SECRET}\n")
    assert "names TOKEN without a value" in done.err
    assert holding(taskrun.folder) == []


def test_a_context_that_attaches_leaves_it_nowhere(taskrun: Taskrun) -> None:
    meeting = Meeting(taskrun, gated(2), "-s", "localhost:1")
    guest = meeting.attach("-s", "localhost:1", "--env", f"TOKEN={SECRET}")
    meeting.wait_for(1, 1)
    having = [pid for pid, line in taskrun.processes().items() if SECRET in line]
    assert having == [guest.pid]
    assert (holding(taskrun.folder), SECRET in json.dumps(meeting.picture())) == ([], False)
    meeting.go()
    assert (meeting.running.finish().code, guest.finish().code) == (0, 0)
    assert holding(taskrun.folder) == []
