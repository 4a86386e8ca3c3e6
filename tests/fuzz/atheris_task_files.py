"""Task files by coverage: `python tests/fuzz/atheris_task_files.py`."""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parents[1])]

with atheris.instrument_imports(include=["taskrun.language", "taskrun.planning"]):
    from fuzz import targets
    from fuzz.atheris_run import run

SEEDS = (
    b"true\n# x\n\n#TASKRUN PREFIX a\n#DISBATCH SUFFIX b\nfalse\n#TASKRUN BARRIER key CHECK\n#REPEAT 3 start 2 step -1 echo\n",
    b"#TASKRUN PERENGINE START x\n#TASKRUN PERENGINE START CHECK z\n#TASKRUN PERENGINE STOP y\nls\r\n#BARRIER\r\n",
    b"#DISBATCH REPEAT 5 x\n#DISBATCH UNKNOWN\n\xef\xbb\xbf\0\n#TASKRUN FOREACH *.txt cat {}\n",
)

if __name__ == "__main__":
    run(lambda data, size: targets.task_file(data, size, size % 2 == 0), SEEDS)
