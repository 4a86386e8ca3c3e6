"""Files that are no lists of tasks are told once, whatever their lines lack; lists of tasks are not."""

from __future__ import annotations

import pytest

from taskrun.language.reader import Reader
from taskrun.language.whole import parse_whole

ONE_TASK = "a task file holds one command per line; to run this one as a single task: echo '{} FILE' | taskrun -"
SCRIPT = "this file is a shell script, and each of its lines would be a task"
JOB = "this file is a job script (#{}), and each of its lines would be a task"
CHANGES = f"{SCRIPT}: this one changes nothing for those below"


def told(text: str) -> list[tuple[int, str, str, str]]:
    diagnostics = parse_whole(text.encode()).diagnostics
    reader = Reader("tasks.txt")
    for place in range(0, len(text.encode()), 7):
        reader.feed(text.encode()[place : place + 7])
    reader.close()
    assert reader.diagnostics == diagnostics
    return [(each.line, each.kind, each.message, each.hint or "") for each in diagnostics]


@pytest.mark.parametrize(
    ("text", "line", "message", "hint"),
    [
        ("#!/bin/bash\nfor i in 1 2; do\n  date\ndone\n", 2, f"{SCRIPT}: for has no done in this line", ONE_TASK.format("bash")),
        ("#!/bin/sh\n\n# x\nmake a \\\n  b\n", 4, f"{SCRIPT}: this line ends in a backslash, and no line continues in the next", ""),
        ("#!/usr/bin/env -S bash -e\ncd /data\n./run\n", 2, CHANGES, "a task file"),
        ("#!/bin/bash\ndate\nDIR='a b'/c\nls $DIR\nif true; then\n", 3, CHANGES, "a task file"),
        ("#!/bin/bash\n#SBATCH -n 4\ncd x\nif true\nthen\n", 2, JOB.format("SBATCH"), "submit"),
        ("#PBS -l nodes=1\ncd x\n", 1, JOB.format("PBS"), "submit it to the queue"),
        ("#!/usr/bin/env python3\nprint('a'\n", 1, "this file is a program for python, no list of tasks", ONE_TASK.format("python3")),
        ("#!/usr/bin/perl -w\nfoo('a\n", 1, "this file is a program for perl, no list of tasks", ONE_TASK.format("perl")),
        ("# x\nimport os\nfrom os import path\n\ndef f(x):\n    '\n", 3, "this file is a program in Python, no list of tasks", "a"),
        ("library(dplyr)\nx <- f('\n", 1, "this file is a program in R, no list of tasks", ONE_TASK.format("Rscript")),
        ('{\n  "a": [1,\n  2]\n}\n', 2, "this file is data, no list of tasks", "a task file holds one command per line"),
        ('[{"a": "it\'s"}]\n', 1, "this file is data, no list of tasks", "a task file"),
    ],
)  # fmt: skip
def test_what_a_file_is_is_told_once(text: str, line: int, message: str, hint: str) -> None:
    found = [each for each in told(text) if each[:2] != (1, "incomplete")]
    assert [(each[0], each[1], each[2]) for each in found] == [(line, "not-tasks", message)]
    assert found[0][3].startswith(hint)


@pytest.mark.parametrize(
    "text",
    [
        "#!/usr/bin/env taskrun\n./run 1\n./run 2\n",
        "#!/usr/bin/env disBatch\n(cd x; make)\n",
        "#!/usr/bin/python3 /opt/bin/disBatch\n./run 1\n",
        "#!/bin/bash\n./run 1\ncd x; ./run\nA=1 ./run\nexport A=1; ./run\nfor i in 1 2; do date; done\n",
        "#!/bin/bash\n#PREFIX cd x && \n./run\n",
        "import screen.png\nimport a b\nlibrary x\nuse it\nclass a\ndefine x\n",
        "# from here import what is there\n# SBATCH is not used\n#SBATCH\n./run\n",
        "{ date; }\n[ -f x ] && date\n< x cat\n",
        "cd x\nA=1\n",
    ],
)
def test_lists_of_tasks_are_not(text: str) -> None:
    assert told(text) == []


def test_it_can_be_silenced_and_is_looked_for_in_the_first_lines_only() -> None:
    assert told("#TASKRUN ALLOW not-tasks\n#SBATCH -n 1\ndate\n") == []
    assert told("date\n" * 300 + "#SBATCH -n 1\n") == []
