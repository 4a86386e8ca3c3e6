"""Warnings about words of STAGE lines that look as if they were expanded."""

from __future__ import annotations

import pytest

from taskrun.language import Reader


def told(line: bytes) -> list[tuple[int, int, str, str]]:
    reader = Reader("tasks.txt")
    list(reader.feed(line + b"\n"))
    list(reader.close())
    return [(each.column, each.length, each.kind, each.message) for each in reader.diagnostics]


@pytest.mark.parametrize(
    ("line", "column", "length", "kind", "said"),
    [
        (b"#TASKRUN STAGE-IN $HOME/x in/", 19, 5, "not-expanded", "$HOME is not replaced"),
        (b"#TASKRUN STAGE-IN ~/x in/", 19, 1, "not-expanded", "~ is not expanded"),
        (b"#TASKRUN STAGE-IN ~ann/x in/", 19, 4, "not-expanded", "~ann is not expanded"),
        (b'#TASKRUN STAGE-OUT x "s3://b/${USER}/"', 30, 7, "not-expanded", "${USER} is not replaced"),
        (b"#TASKRUN STAGE-OUT out.$TASKRUN_TASKID s3://b/", 24, 15, "not-expanded", "is not replaced in a line of RUN"),
        (b"#TASKRUN STAGE-OUT TASK out.$NAME s3://b/", 29, 5, "not-expanded", "only TASKRUN_ and DISBATCH_"),
        (b"#TASKRUN STAGE-OUT 'out/*.txt' s3://b/", 25, 1, "quoted-glob", "quoted, * means itself"),
        (b"#TASKRUN STAGE-OUT out/**.txt s3://b/", 24, 6, "quoted-glob", "**.txt matches names of one directory"),
    ],
)
def test_what_is_told(line: bytes, column: int, length: int, kind: str, said: str) -> None:
    (found,) = told(line)
    assert found[:3] == (column, length, kind)
    assert said in found[3]


@pytest.mark.parametrize(
    "line",
    [
        b"#TASKRUN STAGE-IN s3://b/**/*.txt in/",
        b"#TASKRUN STAGE-IN TASK s3://b/${TASKRUN_TASKID}.bam in/",
        b"#TASKRUN STAGE-IN sftp://host/~/x in/",
        b"#TASKRUN STAGE-IN 'my data'/x[12]? in/",
        b"#TASKRUN STAGE-IN 'a$HOME' in/",
        b"#TASKRUN STAGE-IN a\\$HOME in/",
        b"#TASKRUN STAGE-IN a~b in/",
        b"#TASKRUN ALLOW not-expanded\n#TASKRUN STAGE-IN $HOME in/",
    ],
)
def test_what_is_not(line: bytes) -> None:
    assert told(line) == []
