"""Many engines at once, agents on this machine that a stand-in for ssh starts. (A hundred of them: benchmarks/ssh.py.)"""

from __future__ import annotations

from collections import Counter

from harness import Taskrun

ENGINES = 30


def test_many_engines(taskrun: Taskrun) -> None:
    """All join, every task runs once, nothing is left; log files of engines that said nothing are not there."""
    taskrun.write({"far": '#!/bin/sh\nexec /bin/sh -c "$2"\n', "tasks.txt": "#TASKRUN REPEAT 3000 true\n"})
    (taskrun.folder / "far").chmod(0o755)
    result = taskrun("tasks.txt", "-s", f"n[01-{ENGINES}]:1", "--ssh", "./far", "--starter", "builtin", "-p", "run", timeout=55)
    assert result.code == 0, result.err
    assert len(Counter(each["TaskID"] for each in result.records())) == len(result.records()) == 3000
    joined = [each["engine"] for each in result.events("engine") if each["what"] == "joined"]
    assert len(joined) == ENGINES
    assert not list(taskrun.folder.glob("run_n*.log"))
