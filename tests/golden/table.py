"""What taskrun does in each recorded step of disBatch: the same, something else on purpose, or something that is built later.

This is the one table of where the two differ; test_golden.py reads it and checks that it names every recorded step.

A step that says nothing is the same: exit code, stdout and status file as recorded. `differs` says why it is not, in the words of the
decision, and the fields beside it say what is expected instead; a field left out is as recorded. A step with a name instead of a number
was not recorded: it shows that the rest of a case is the same once the line in the way is gone.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Step:
    id: int | str
    differs: str | None = None  # why it is not as recorded
    later: str | None = None  # the subject that it belongs to
    command: str | None = None  # instead of the recorded one
    env: Mapping[str, str] = field(default_factory=dict)  # what was set when it was recorded
    stdin: str | None = None  # a file of the case
    code: int | None = None
    stdout: re.Pattern[str] | None = None
    stderr: tuple[str, ...] = ()  # regular expressions (multi-line) that are found there
    status: str | tuple[str, ...] | None = None  # another recorded status file, or the lines; NOTHING is no file at all
    writes: str | None = None  # the status file's name (a glob), if not PREFIX_status.txt with the recorded prefix


#: No status file: a run that is refused writes none, so that the corrected command can use the same prefix.
NOTHING = "nothing"
EMPTY: tuple[str, ...] = ()

How = Literal["exact", "any order", "slots", "elements"]


@dataclass(frozen=True)
class Case:
    name: str
    steps: tuple[Step, ...]
    inputs: tuple[str, ...] = ("tasks",)
    folders: tuple[str, ...] = ()  # that were there
    makes: Mapping[str, How] = field(default_factory=dict)  # files that tasks write, as recorded, and how they are compared
    instead: Mapping[str, str | re.Pattern[str] | None] = field(default_factory=dict)  # what they hold instead; None: not written
    not_yet: tuple[str, ...] = ()  # recorded files (globs) of steps that come later


def refused(step: int, why: str, *places: str, command: str | None = None) -> Step:
    """Nothing is run, at once: exit 2. `places` are the diagnostics' places, `FILE:LINE`."""
    stderr = tuple(rf"^{re.escape(place)}:\d+: error: \S" for place in places)
    return Step(step, differs=why, command=command, code=2, stderr=stderr, status=NOTHING)


def line(flags: str, task: int, number: int, code: int, command: str, *, repeat: int = -1, out: str = "0\t''", err: str = "0\t''") -> str:
    """A status line as compared, with Node, PID and times masked."""
    return f"{flags}\t{task}\t{number}\t{repeat}\tNODE\tPID\t{code}\tELAPSED\tSTART\tFINISH\t{out}\t{err}\t{command}"


def snippet(text: bytes) -> str:
    """Bytes and snippet columns of what a task printed: its first 40 bytes, dots, and the last 40 of the remainder."""
    shown = text if len(text) <= 40 else text[:40] + b"..." + text[40:][-40:]
    return f"{len(text)}\t{shown.decode('utf-8', 'replace')!r}"


UNKNOWN = "unknown directive: refused before the first task"
IGNORED = "--ignore-unknown runs as disBatch does"
LATE = "late PERENGINE: refused before the first task"
NO_ROOM = "-c too large, -s host:0, no engine: refused at once"
NOTHING_LEFT = "nothing left to do: says so, exit 0"
PREFIX_CLEARS = "`#DISBATCH PREFIX` without trailing space clears the prefix, as written"

# 02, line 11: with its prefix cleared but its suffix in force the line is bash's syntax error, in the words of the bash that is here.
_ODD = "echo c ) > out_${DISBATCH_TASKID}.txt"
_ODD_ENDS = subprocess.run(["/bin/bash", "-c", _ODD], capture_output=True, check=False)

TABLE = (
    Case("01_ok_fail_signal", (Step(1),)),
    Case(
        "02_prefix_suffix",
        (
            Step(
                1,
                differs=PREFIX_CLEARS,
                status=(
                    line("    ", 0, 1, 0, "echo bare > out_$DISBATCH_TASKID.txt"),
                    line("    ", 1, 4, 0, "( echo pre ; echo a ) > out_${DISBATCH_TASKID}.txt"),
                    line("    ", 2, 5, 0, "( echo pre ;   echo lead ; echo 'trail'    ) > out_${DISBATCH_TASKID}.txt"),
                    line("    ", 3, 6, 0, "( echo pre ; echo r$DISBATCH_REPEAT_INDEX ) > out_${DISBATCH_TASKID}.txt", repeat=0),
                    line("    ", 4, 6, 0, "( echo pre ; echo r$DISBATCH_REPEAT_INDEX ) > out_${DISBATCH_TASKID}.txt", repeat=1),
                    line("    ", 5, 7, 0, "( echo pre ;  ) > out_${DISBATCH_TASKID}.txt", repeat=0),
                    line("    ", 6, 9, 0, "(   echo lower ;echo b ) > out_${DISBATCH_TASKID}.txt"),
                    line("R E ", 7, 11, _ODD_ENDS.returncode, _ODD, err=snippet(_ODD_ENDS.stderr)),
                    line("    ", 8, 14, 0, "echo d > out_d.txt"),
                ),
            ),
        ),
        makes={f"out_{n}.txt": "exact" for n in "0123456d"},
        instead={"out_7.txt": None},
    ),
    Case(
        "03_repeat",
        (
            refused(1, UNKNOWN, "tasks:10", "tasks:11", "tasks:13", "tasks:14", command="taskrun -s localhost:2 -p step1 tasks"),
            Step(
                "ignored",
                differs=IGNORED,
                command="taskrun --ignore-unknown -s localhost:2 -p step2 tasks",
                code=0,
                stderr=("tasks:10", "tasks:14"),
                status="step1_status.txt",
            ),
        ),
    ),
    Case(
        "04_barrier",
        (
            refused(1, "BARRIERxyz, BARRIER CHECKME: refused with a hint", "tasks:9", "tasks:10"),
            Step(
                "mended",
                differs="BARRIER [CHECK] [key] as before; directive names in any case after the sigil",
                command="sed '9,10s/^/# /' tasks > mended; taskrun -s localhost:2 -p step2 mended",
                code=0,
                status=(
                    line("    ", 0, 1, 0, "sleep 0.5; echo 0 >> order.txt"),
                    line("R   ", 1, 2, 1, "echo 1 >> order.txt; false"),
                    line("B    ", 2, 3, 0, "#DISBATCH BARRIER"),
                    line("B    ", 3, 4, 0, "#DISBATCH BARRIER mykey"),
                    line("B    ", 4, 5, 0, "#DISBATCH BARRIER"),
                    line("    ", 5, 6, 0, "echo 5 >> order.txt"),
                    line("C    ", 6, 7, 0, "#DISBATCH BARRIER CHECK"),
                    line("C    ", 7, 8, 0, "#DISBATCH BARRIER CHECK chk key"),
                    line("B    ", 8, 11, 0, "#DISBATCH BARRIER key CHECK"),
                    line("B    ", 9, 12, 0, "#DISBATCH BARRIER  CHECK"),
                    line("B    ", 10, 13, 0, "#DISBATCH BARRIER "),
                    line("B    ", 11, 14, 0, "#DISBATCH barrier"),
                    line("    ", 12, 15, 0, "echo 14 >> order.txt"),
                ),
            ),
        ),
        makes={"order.txt": "exact"},
    ),
    Case(
        "05_barrier_check_fail",
        (
            Step(1, differs="failed BARRIER CHECK: exit 1, and stderr says which tasks failed and how many lines were not run", code=1),
            Step(2),
        ),
        instead={"notrun.txt": None},
    ),
    Case(
        "06_perengine",
        (Step(1),),
        makes={"pe_start0_0.env": "exact", "pe_start1.env": "exact", "pe_stop0.env": "exact", "t0.txt": "exact"},
    ),
    Case("07_leaky", (Step(1),)),
    Case("09_empty", (Step(1), Step(2), Step(3)), inputs=("tasks", "comments")),
    Case(
        "11_env",
        (
            refused(1, LATE, "tasks:3"),
            Step(
                "mended",
                differs=LATE,
                command="mkdir step2 && sed 3d tasks > step2/tasks && taskrun -s localhost:2 -p step1 step2/tasks",
                code=0,
                status="step1_status.txt",
                writes="step1_status.txt",
            ),
        ),
        makes={"env_1.txt": "exact", "env_2.txt": "exact"},
    ),
    Case(
        "12_failfast",
        (
            Step(
                1,
                differs="--fail-fast starts nothing new, ends running ones (TERM, grace, KILL), exit 1",
                command="taskrun --fail-fast -s localhost:2 -p step1 tasks",  # what lives on is looked for after every step
                code=1,
            ),
        ),
        instead={"notrun.txt": None, "after.txt": None},
    ),
    Case(
        "13_resume_retry",
        (
            Step(1),
            Step(2),
            Step(3),
            Step(
                4,
                differs="an S line counts as the record it repeats; nothing left to do: 1 with -e and a failure on record",
                status="step5_status.txt",
            ),
            Step(5),
        ),
        inputs=("tasks", "tasks2"),
        instead={"ran.txt": re.compile(r"(r0\nr1\n|r1\nr0\n)(rep5\nrep6\n|rep6\nrep5\n)new\nr1\n(rep6\nnew\n|new\nrep6\n)")},
    ),
    Case(
        "14_resume_mismatch",
        (
            Step(1),
            refused(2, "mismatch: nothing runs; the first differing lines are shown side by side, exit 2"),
            refused(3, "mismatch: nothing runs; the first differing lines are shown side by side, exit 2"),
            Step(4),
            Step(5, differs="the line number may move", code=0, status="step6_status.txt"),
            Step(6),
            refused(7, "unreadable -r file: refused, exit 2"),
            Step(8, differs=NOTHING_LEFT, code=0),
            refused(9, "-R without -r would run everything again: refused, exit 2"),
        ),
        inputs=("tasks", "edited0", "edited1", "linemoved"),
    ),
    Case(
        "16_late_perengine",
        (
            refused(1, LATE, "tasks:3"),
            refused(2, LATE, "lower:3"),
            Step(
                3,
                differs="lower-case perengine start: START/STOP in any case after the sigil",
                code=0,
                status=(line("   P", 0, 1, 0, "true"), line("    ", 0, 2, 0, "true 3")),
            ),
            Step(
                4,
                differs="lower-case perengine start: START/STOP in any case after the sigil",
                code=0,
                status=(line("   P", 0, 1, 0, "true"), line("    ", 0, 3, 0, "true 3"), line("   P", 0, 2, 0, "true")),
            ),
        ),
        inputs=("tasks", "lower", "lower1", "lower2"),
        instead={"a.txt": None, "b.txt": None},
    ),
    Case(
        "17_only_directives",
        (
            Step(1, differs=NOTHING_LEFT, code=0),
            Step(2, differs=NOTHING_LEFT, code=0),
            Step(3, differs=NOTHING_LEFT, code=0),  # without a task no engine is started
            Step(4),
            refused(5, UNKNOWN, "unk:1"),
        ),
        inputs=("barrier", "rep0", "pe", "pfx", "unk"),
        instead={"pe.txt": None},
    ),
    Case(
        "18_stdin_and_names",
        (
            Step(1, differs="the default prefix is TASKFILE_JOBID", stdin="tasks", writes="stdin_*_status.txt"),
            refused(2, "two task files: refused, as recorded, and no usage of disBatch is printed"),
            refused(3, "no such task file: refused, as recorded"),
            refused(4, "no task file: refused, as recorded"),
            Step(5, differs="its own version", stdout=re.compile(r"(taskrun )?\d+\.\d+\.\d+\S*\n")),
            refused(6, NO_ROOM),
            Step(7, differs="without -s and outside an allocation: this machine", code=0, status=(line("    ", 0, 1, 0, "true"),)),
            refused(8, NO_ROOM),
            Step(9, later="SSH engines: -S"),
        ),
        inputs=("tasks", "tasks_b"),
        makes={"read.txt": "exact"},
        instead={
            "names.txt": re.compile(r"stdin stdin_\d{12}\n"),
            "ls.txt": re.compile(
                r"(ls\.txt\n|names\.txt\n|read\.txt\n|tasks\n|tasks_b\n"
                r"|stdin_\d{12}_(status\.txt|run\.json|events\.jsonl|tasks\.txt|dbUtil\.sh|\w+\.log)\n)+"
            ),
        },
    ),
    Case(
        "21_slots",
        (
            Step(1),
            Step(2),
            Step(3),
            refused(4, NO_ROOM),
            Step(5),
            Step(6),
            refused(7, NO_ROOM),
            Step(8, later="SSH engines: DISBATCH_SSH_NODELIST"),
            Step(9),
        ),
        makes={f"step{n}.cpt": "slots" for n in (1, 2, 3, 5, 6, 9)},
        not_yet=("step8.cpt",),
    ),
    Case(
        "22_env_resource_gpu",
        (
            Step(1, env={"CUDA_VISIBLE_DEVICES": "0,1,2", "GPU_DEVICE_ORDINAL": "0,1,2", "MYRES": "a,b,c"}),
            Step(2, env={"CUDA_VISIBLE_DEVICES": "4,5,6", "MYRES": "a,b,c"}),
            Step(3, env={"MYRES": "a,b"}, stderr=("-g: no variable names the GPUs", "-E MYRES has 2 for 3 slots: 2 slots are used")),
        ),
        makes={f"e_step{step}_{n}": "exact" if step == 1 else "elements" for step in (1, 2, 3) for n in range(6)},
    ),
    Case(
        "23_context_limit",
        (Step(1), Step(2, differs="-C below the number of tasks: ends resumable, says what is left", code=3)),
        inputs=("tasks", "tasks5"),
    ),
    Case(
        "28_slurm",
        (
            *(Step(number, later="a real cluster: tests/slurm/test_beside_disbatch.py") for number in range(1, 8)),
            Step(
                8,
                env={
                    "SLURM_JOBID": "4711",
                    "SLURM_JOB_ID": "4711",
                    "SLURM_NODELIST": "vm,w[01-02]",
                    "SLURM_JOB_CPUS_PER_NODE": "8(x2),4",
                    "SLURM_TASKS_PER_NODE": "2(x2),1",
                },
            ),
        ),
        makes={"w_step8": "exact"},
        not_yet=("w_step[1-7]",),
    ),
    Case("40_example_DBtasksOneBadOneLeaky", (Step(1),), inputs=("DBtasks",), folders=("dbTestOutputDir",)),
    Case("41_example_barrierCheckFail", (Step(1),), inputs=("barrierCheckFail",)),
    Case("42_example_4KTasksRep_small", (Step(1),), inputs=("t",), makes={"lines.txt": "exact"}),
    Case(
        "43_example_DCPT_GPU",
        (Step(1), Step(2, stderr=("-g: no variable names the GPUs",))),
        inputs=("d", "g"),
        folders=("DCPTTest", "GPUTest"),
    ),
    Case(
        "49_malformed_closes_perengine",
        (
            Step(
                1,
                differs="`#DISBATCH SUFFIX` without trailing space clears the suffix: it does not end the PERENGINE block",
                code=0,
                status=(line(" O P", 0, 2, 0, "echo x", out="2\t'x\\n'"), line("    ", 0, 3, 0, "true")),
            ),
            refused(2, UNKNOWN, "t2:2"),
            Step(
                "ignored",
                differs="--ignore-unknown keeps what disBatch takes for a task a task",
                command="taskrun --ignore-unknown -e -s localhost:2 -p step2i t2",
                code=0,
                status="step2_status.txt",
                writes="step2i_status.txt",
            ),
            Step(
                3,
                differs=NO_ROOM,
                command="taskrun -s '' -p step3 t3; echo rc $?; taskrun -s localhost:-1 -p step3b t3",
                code=2,
                stdout=re.compile("rc 2\n"),
                status=NOTHING,
            ),
        ),
        inputs=("tasks", "t2", "t3"),
    ),
)
