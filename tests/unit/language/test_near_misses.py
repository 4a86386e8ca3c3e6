"""Comments that look like a misspelt directive are told; prose, headings and commented-out code are not."""

from __future__ import annotations

import pytest

from taskrun.language.reader import Reader


def told(text: bytes) -> list[tuple[int, int, str, str | None]]:
    reader = Reader("tasks.txt")
    reader.feed(text)
    reader.close()
    return [(each.line, each.column, each.kind, each.hint) for each in reader.diagnostics if each.kind != "not-tasks"]


MISSES = {
    "#BARIER": "#BARRIER",
    "#barrier": "#BARRIER",
    " #BARRIER": "#BARRIER",
    "\t#PREFIX cd x; ": "#PREFIX cd x;",
    "# BARRIER": "#BARRIER",
    "# BARRIER CHECK": "#BARRIER CHECK",
    "# BARRIER stage1": "#BARRIER stage1",
    "#BARRIERS": "#BARRIER",
    "#BARIER wait for all": "#BARRIER wait for all",
    "#BARRIER: x": "#BARRIER x",
    "#BARRIER2": "#BARRIER",
    "#barrier check": "#BARRIER check",
    "#REPEAT: 4": "#REPEAT 4",
    "#REPET 3 x": "#REPEAT 3 x",
    "#repeat 3": "#REPEAT 3",
    "#repeat 3 start 1 echo x": "#REPEAT 3 start 1 echo x",
    "# REPEAT 3 ./run $x": "#REPEAT 3 ./run $x",
    "#disbatch prefix": "#DISBATCH PREFIX",
    "#Disbatch PREFIX": "#DISBATCH PREFIX",
    "#DISBACH REPEAT 3 x": "#DISBATCH REPEAT 3 x",
    "# TASKRUN BARRIER CHECK": "#TASKRUN BARRIER CHECK",
    " #TASKRUN BARIER": "#TASKRUN BARRIER",
    "#taskrun foreach *.txt cat {}": "#TASKRUN FOREACH *.txt cat {}",
    "#STAGEIN s3://a/b": "#STAGE-IN s3://a/b",
    "#STAGE_OUT x y/": "#STAGE-OUT x y/",
    "#FOREACH": "#TASKRUN FOREACH",
    "#FOREACH *.TXT cat {}": "#TASKRUN FOREACH *.TXT cat {}",
    "#ALLOW crlf": "#TASKRUN ALLOW crlf",
    "#PERNODE": "#PERENGINE START",
    "#PERNODE START module load x": "#PERENGINE START module load x",
    "#perengine start ./prepare > log": "#PERENGINE start ./prepare > log",
    "#PERENGIN STOP rm x": "#PERENGINE STOP rm x",
    "#SUFIX  > log": "#SUFFIX > log",
    "#prefix cd $HOME/x && ": "#PREFIX cd $HOME/x &&",
}


@pytest.mark.parametrize("line", MISSES)
def test_a_near_miss(line: str) -> None:
    ((number, column, kind, hint),) = told(b"true\n# x\n" + line.encode() + b"\ntrue\n")
    indent = len(line) - len(line.lstrip())
    assert (number, column, kind) == (3, indent + 1, "near-miss")
    place = ", from the first column on" if indent else ""
    assert hint == f"did you mean `{MISSES[line]}`{place}? A line that begins with ## is always a comment"


COMMENTS = """\
# Barrier islands
# barrier
#repeat after me:
#repeat 3 times with other seeds
#prefix of the output
#barrier islands
#barriers
# prefix: path of the output
# PREFIX: path of the output
# REPEAT: 4
# PREFIX is the folder
#PREFIX=/opt/x
#PREFIX_DIR=$HOME
#REPEATS=5
# export PREFIX=/usr
##BARRIER
## BARRIER
#-BARRIER
#SBATCH --prefix=x
#SBATCH PREFIX
#!/bin/bash
# BARRIER CHECK waits until everything above it has ended
# PERENGINE START runs before the first task of each engine
# disBatch repeat lines follow
# disBatch REPEAT lines follow
#taskrun
#taskrun runs these lines
#PREFIXES AND SUFFIXES
# STAGE-IN the data first
# stage in the data
#stage 1
# STAGE 1
#allow
#ALLOW
# ALLOW
# Encrypt a@b.c
#encrypted
# ENCRYPT everything
# FOR EACH FILE
# foreach
#echo 1
#python run.py --repeat 3
# START of part 2
# PERENGINE commands come first
# CHECK
#REPORT 3
#SUFFICES
#"""


def test_comments_are_left_alone() -> None:
    for line in COMMENTS.splitlines():
        assert told(line.encode() + b"\n") == [], line


@pytest.mark.parametrize(
    ("line", "kind", "hint"),
    [
        ("#BARRIER CHEK", "barrier-key", "did you mean `#BARRIER CHECK`?"),
        ("#TASKRUN BARRIER CHCEK all of it", "barrier-key", "did you mean `#TASKRUN BARRIER CHECK all of it`?"),
        ("#PERENGINE START CHEK ./probe", "clause", "did you mean `#PERENGINE START CHECK command`?"),
        ("#PERENGINE START CHECK ", "clause", "usage: #PERENGINE START [CHECK]|STOP command"),
        ("#PERENGINE START CHECK   ", "clause", "usage: #PERENGINE START [CHECK]|STOP command"),
        ("#BARRIER chek", "", ""),
        ("#BARRIER CHUNK", "", ""),
        ("#PERENGINE START checkout x", "", ""),
        ("#PERENGINE STOP CHEK", "", ""),
    ],
)
def test_a_check_that_is_none(line: str, kind: str, hint: str) -> None:
    assert [found[2:] for found in told(line.encode() + b"\n")] == ([(kind, hint)] if kind else [])


def test_the_same_miss_is_told_once() -> None:
    reader = Reader("tasks.txt")
    for _ in range(1000):
        reader.feed(b"#barrier\ntrue\n#BARIER\n")
    assert [(each.line, each.more) for each in reader.diagnostics] == [(1, 999), (3, 999)]
    assert told(b"#TASKRUN ALLOW near-miss\n#barrier\n") == []
