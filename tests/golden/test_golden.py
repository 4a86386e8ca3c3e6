"""Runs the recorded steps of disBatch with taskrun and compares them as table.py says."""

from __future__ import annotations

import fnmatch
import re
import shutil
import socket
import sys
from pathlib import Path

import pytest
from golden.table import NOTHING, TABLE, Case, Step
from harness import COLUMNS, Result, Taskrun, environment, read_status, until

CASES = Path(__file__).parent / "cases"
LONG = {"21_slots"}  # its tasks sleep for 20 s in all
HEADER = "\t".join(("ROE[ PSZ]", *COLUMNS[1:]))
_DATE = re.compile(r"\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d UTC|(?<= )20\d\d\b")
_RANK = re.compile(r"^DISBATCH_CYLINDER_RANK=\d+$", re.MULTILINE)  # which of the free slots takes a task is chance
_SERVER = re.compile(r"^DISBATCH_KVSSTCP_HOST=.*\n", re.MULTILINE)  # there is no such server


def test_every_recorded_step_and_file_is_in_the_table() -> None:
    missing = []
    listed = {case.name: case for case in TABLE}
    for folder in sorted(CASES.iterdir()):
        case = listed.pop(folder.name, None)
        if case is None:
            missing.append(folder.name)
            continue
        steps = {step.id for step in case.steps}
        named = {*case.inputs, *case.makes, *case.instead, "NOTES"}
        for path in sorted(folder.iterdir()):
            if found := re.fullmatch(r"step(\d+)\.(cmd|exit|stdout|stderr|fake)", path.name):
                known = int(found[1]) in steps
            else:
                known = path.name in named or path.name.endswith("_status.txt")
            if not known and not any(fnmatch.fnmatch(path.name, pattern) for pattern in case.not_yet):
                missing.append(f"{folder.name}/{path.name}")
    assert not missing
    assert not listed, "cases that were never recorded"


@pytest.mark.timeout(120)  # for a whole case
@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case.name, marks=[pytest.mark.long] if case.name in LONG else []) for case in TABLE]
)
def test_case(case: Case, tmp_path: Path) -> None:
    compare(case, tmp_path)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in TABLE if case.name not in LONG])
def test_case_without_gnu_parallel(case: Case, tmp_path: Path) -> None:
    compare(case, tmp_path, TASKRUN_OPT_STARTER="builtin")


def compare(case: Case, tmp_path: Path, **env: str) -> None:
    """Runs the steps of a case in one folder, and fails with all of what differs."""
    folder = tmp_path / case.name
    folder.mkdir()
    for name in case.folders:
        (folder / name).mkdir()
    for name in case.inputs:
        shutil.copyfile(CASES / case.name / name, folder / name)
    shell = _shell(folder, tmp_path, env)
    problems = []
    for step in case.steps:
        if step.later is None:
            problems += [f"step {step.id}: {problem}" for problem in _try(case, step, shell)]
    shell.close()
    problems += _compare_files(case, folder)
    assert not problems, "\n" + "\n".join(problems)


def _shell(folder: Path, around: Path, more: dict[str, str]) -> Taskrun:
    """A bash in which `taskrun` is the one under test and `hostname` prints the recording machine's, so that snippets are cut alike."""
    programs = around / "bin"
    programs.mkdir()
    for name, text in {"taskrun": f'exec {sys.executable} -m taskrun "$@"', "hostname": "echo vm"}.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    home = around / "home"
    home.mkdir()
    env = environment(home, **more)
    return Taskrun(folder, {**env, "PATH": f"{programs}:{env['PATH']}"}, command=("/bin/bash", "-c"))


def _try(case: Case, step: Step, shell: Taskrun) -> list[str]:
    recorded = CASES / case.name / f"step{step.id}"
    command = step.command or _translate(recorded.with_suffix(".cmd").read_text().rstrip("\n"))
    before = set(shell.folder.iterdir())
    result = shell(command, stdin=(shell.folder / step.stdin).read_bytes() if step.stdin else b"", env=step.env)
    until(lambda: not shell.processes(), 5, f"the processes of {command!r} to end: {shell.processes()}")
    problems = []

    code = step.code if step.code is not None else int(recorded.with_suffix(".exit").read_text())
    if result.code != code:
        problems.append(f"exit code {result.code}, expected {code}")

    if step.stdout is not None:
        if not step.stdout.fullmatch(result.out):
            problems.append(f"stdout {result.out!r}, expected {step.stdout.pattern!r}")
    elif result.out != (expected := recorded.with_suffix(".stdout").read_text() if step.command is None else ""):
        problems.append(f"stdout {result.out!r}, expected {expected!r}")
    problems += [f"no {pattern!r} in stderr" for pattern in step.stderr if not re.search(pattern, result.err, re.MULTILINE)]

    problems += _compare_status(case, step, command, result, set(shell.folder.iterdir()) - before)
    if problems:
        problems.append("\n  ".join([f"(it was: {command}", *result.err.splitlines()[-8:]]) + ")")
    return problems


def _compare_status(case: Case, step: Step, command: str, result: Result, new: set[Path]) -> list[str]:
    prefix = re.search(r"-p (\S+)", command)
    pattern = step.writes or (f"{prefix[1]}_status.txt" if prefix else "*_status.txt")
    expected = step.status
    if expected is None:
        recorded = sorted((CASES / case.name).glob(step.writes or f"step{step.id}_status.txt"))
        expected = recorded[0].name if recorded else NOTHING
    if expected == NOTHING:
        left = sorted(path.name for path in new if re.search(r"_(status\.txt|run\.json|events\.jsonl)$|\.lock$", path.name))
        return [f"refused, but it wrote {', '.join(left)}"] if left else []
    written = [path for path in sorted(result.folder.glob(pattern)) if path in new]
    if len(written) != 1:
        return [f"wrote {len(written)} files {pattern}, expected one"]
    problems = []
    header, lines = _masked(written[0])
    if isinstance(expected, str):
        wanted_header, wanted = _masked(CASES / case.name / expected)
        if header != wanted_header:
            problems.append(f"header line: {header}, expected: {wanted_header}")
    else:
        wanted = _in_order(list(expected))
    problems += [f"not expected: {line!r}" for line in _without(lines, wanted)]
    problems += [f"expected:     {line!r}" for line in _without(wanted, lines)]
    return problems + _odd_columns(written[0])


def _masked(path: Path) -> tuple[bool, list[str]]:
    """Whether it begins with the header, and its lines as they are compared: sorted, with what differs from run to run masked."""
    lines = path.read_bytes().decode().split("\n")
    assert lines.pop() == ""
    header = lines[:1] == [HEADER]
    masked = []
    for line in lines[header:]:
        fields = line.split("\t", 14)
        fields[4:6] = ["NODE", "PID"]
        fields[7:10] = ["ELAPSED", "START", "FINISH"]
        fields[11] = _DATE.sub("DATE", fields[11])
        masked.append("\t".join(fields))
    return header, _in_order(masked)


def _in_order(lines: list[str]) -> list[str]:
    def key(line: str) -> tuple[int, str, int]:
        flags, task, number, _ = line.split("\t", 3)
        return int(task), flags, int(number)

    return sorted(lines, key=key)


def _without(lines: list[str], others: list[str]) -> list[str]:
    rest = list(others)
    return [line for line in lines if line not in rest or rest.remove(line)]  # type: ignore[func-returns-value]


def _odd_columns(path: Path) -> list[str]:
    """The masked columns cannot be compared, but they can be wrong."""
    problems = []
    earlier = [record for other in path.parent.glob("*_status.txt") if other != path for record in read_status(other)]
    kept = ("TaskID", "Node", "PID", "ReturnCode", "Start", "Finish", "Command")
    for line, record in zip(_lines(path), read_status(path), strict=True):
        fields = line.split("\t")
        if record["Node"] != socket.gethostname():
            problems.append(f"node {record['Node']!r} in {line!r}")
        if not all(re.fullmatch(r"\d+\.\d{3}", fields[column]) for column in (7, 8, 9)):
            problems.append(f"a time without three decimals in {line!r}")
        if not record["Start"] <= record["Finish"] + 0.001:
            problems.append(f"it ends before it starts: {line!r}")
        if not (record["PID"] > 1):
            problems.append(f"pid {record['PID']} in {line!r}")
        if record["Flags"][3] == "S" and not any(all(record[name] == old[name] for name in kept) for old in earlier):
            problems.append(f"an S line that repeats no record: {line!r}")
    return problems


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text("utf-8").split("\n") if line not in ("", HEADER)]


def _compare_files(case: Case, folder: Path) -> list[str]:
    problems = []
    for name, how in case.makes.items():
        recorded = (CASES / case.name / name).read_text()
        if not (folder / name).exists():
            problems.append(f"{name} was not written")
            continue
        made = (folder / name).read_text()
        if how == "slots":  # lines of `CORES SLOT`: the same cores for each, and every slot is used
            made, recorded = _cores_and_slots(made), _cores_and_slots(recorded)
        elif how == "elements":  # of lists in the environment, each slot its own
            lists = [(name, text.split(",")) for step in case.steps for name, text in step.env.items()]
            made, recorded = (_RANK.sub("SLOT", _own(text, lists)) for text in (made, recorded))
        else:
            made = _RANK.sub("SLOT", made.replace(str(folder), case.name))
            recorded = _RANK.sub("SLOT", _SERVER.sub("", recorded))
        if how == "any order":
            made, recorded = ("\n".join(sorted(text.split("\n"))) for text in (made, recorded))
        if made != recorded:
            problems.append(f"{name} holds {made!r}, expected {recorded!r}")
    for name, wanted in case.instead.items():
        held = (folder / name).read_text() if (folder / name).exists() else None
        if wanted is None or held is None:
            if held is not wanted:
                problems.append(f"{name} holds {held!r}, expected {wanted!r}")
        elif not re.fullmatch(wanted, held):
            problems.append(f"{name} holds {held!r}, expected {wanted!r}")
    return problems


def _own(text: str, lists: list[tuple[str, list[str]]]) -> str:
    """Instead of an element that has the number of the slot: that it is the slot's own."""
    found = re.search(r"^DISBATCH_CYLINDER_RANK=(\d+)$", text, re.MULTILINE)
    assert found
    slot = int(found[1])
    for name, elements in lists:
        if slot < len(elements):
            text = re.sub(rf"^{name}={re.escape(elements[slot])}$", f"{name}=OWN", text, flags=re.MULTILINE)
    return text


def _cores_and_slots(text: str) -> str:
    pairs = [line.split() for line in text.splitlines()]
    return f"cores {sorted(cores for cores, _ in pairs)}, slots {sorted({slot for _, slot in pairs})}"


def _translate(command: str) -> str:
    """disBatch's command line as taskrun's; `vm` was the recording machine."""
    return re.sub(r"\bvm:", f"{socket.gethostname()}:", re.sub(r"\bdisBatch\b", "taskrun", command))
