"""The job scripts for PBS, SGE and LSF as those start them, but for qsub and bsub: with the variables that their manuals name."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from attach.meeting import Meeting, gated
from harness import ROOT, Taskrun, until

SCRIPTS = ROOT / "examples" / "other_schedulers"


def test_each_script_brings_the_slots_of_its_job(meet: Callable[..., Meeting], taskrun: Taskrun) -> None:
    folder = taskrun.folder
    programs = folder / "programs"
    programs.mkdir()
    (programs / "taskrun").write_text(f'#!/bin/sh\nexec {sys.executable} -m taskrun "$@"\n')
    (programs / "taskrun").chmod(0o755)
    (folder / "nodes").write_text("node7\n" * 2)
    jobs: dict[str, tuple[int, Path, dict[str, str]]] = {  # slots, where it starts, variables
        "pbs.sh": (2, Path(taskrun.env["HOME"]), {"PBS_O_WORKDIR": str(folder), "PBS_NODEFILE": str(folder / "nodes")}),
        "sge.sh": (3, folder, {"NSLOTS": "3", "NHOSTS": "1", "PE": "smp"}),
        "lsf.sh": (4, folder, {"LSB_DJOB_NUMPROC": "4", "LSB_HOSTS": "node7 " * 4}),
    }
    assert {path.name for path in SCRIPTS.iterdir()} == jobs.keys()
    meeting = meet(gated(9), "-S", "--listen", "127.0.0.1:0")
    running = []
    for name, (slots, cwd, variables) in jobs.items():
        env = {**taskrun.env, **variables, "PATH": f"{programs}:{taskrun.env['PATH']}"}
        with (folder / f"{name}.out").open("wb") as out:
            running.append(subprocess.Popen([SCRIPTS / name], cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out))
        until(lambda: f": {slots} slots on " in (folder / f"{name}.out").read_text(), 20, f"{name} to attach")  # noqa: B023
    until(lambda: len(meeting.ran()) == 9, 20, "all slots to have a task")
    assert sorted(Counter(rank for rank, _ in meeting.ran()).values()) == [2, 3, 4]
    meeting.go()
    assert meeting.running.finish().code == 0
    assert [each.wait(20) for each in running] == [0, 0, 0]
