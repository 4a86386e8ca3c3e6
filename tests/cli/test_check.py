"""`taskrun check`: every problem of a file, and nothing is run."""

from __future__ import annotations

import os
import pty
import subprocess

import pytest
from harness import Taskrun

GOOD = """\
#TASKRUN PERENGINE START mkdir -p /tmp/x
#TASKRUN PERENGINE STOP rm -r /tmp/x
# a comment
true
#TASKRUN BARRIER
#TASKRUN REPEAT 9999 start 1 touch ran
"""

BAD = """\
#TASKRUN BARIER
echo one
#TASKRUN PERENGINE START true
#TASKRUN BARRIER key CHECK
#TASKRUN REPEAT
"""
BAD_TOLD = """\
bad.txt:1:10: error: unknown directive `BARIER`
  1 | #TASKRUN BARIER
    |          ^^^^^^
  help: did you mean BARRIER?
bad.txt:3:10: error: PERENGINE comes too late, below line 2
  3 | #TASKRUN PERENGINE START true
    |          ^^^^^^^^^
  help: engines run it before any task: move it above line 2
bad.txt:4:22: warning: this CHECK is part of the key; the barrier checks nothing
  4 | #TASKRUN BARRIER key CHECK
    |                      ^^^^^
  help: to check, write `#TASKRUN BARRIER CHECK [key]`: one blank, CHECK first
  help: `#TASKRUN ALLOW barrier-key` above it silences this
bad.txt:5:10: error: REPEAT without a count
  5 | #TASKRUN REPEAT
    |          ^^^^^^
  help: usage: #TASKRUN REPEAT count [start number] [step number] [command]
bad.txt: 3 errors, 1 warning
"""


def test_a_good_file_is_one_line(taskrun: Taskrun) -> None:
    result = taskrun("check", "tasks.txt", files={"tasks.txt": GOOD})
    assert (result.code, result.err) == (0, "")
    assert result.out == "tasks.txt: 10,000 tasks, 1 barrier, 2 per-engine commands; no problems\n"
    assert [path.name for path in taskrun.folder.iterdir()] == ["tasks.txt"]


@pytest.mark.parametrize(("text", "told"), [("", "0 tasks"), ("true", "1 task"), ("#BARRIER\n#BARRIER\n", "0 tasks, 2 barriers")])
def test_small_files(taskrun: Taskrun, text: str, told: str) -> None:
    assert taskrun("check", "t", files={"t": text}).out == f"t: {told}; no problems\n"


def test_every_problem_is_told_at_once(taskrun: Taskrun) -> None:
    result = taskrun("check", "bad.txt", files={"bad.txt": BAD})
    assert (result.code, result.out, result.err) == (2, "", BAD_TOLD)


def test_a_warning_alone_is_no_refusal(taskrun: Taskrun) -> None:
    result = taskrun("check", "tasks.txt", files={"tasks.txt": "true\r\nfalse\r\n"})
    assert (result.code, result.out) == (0, "tasks.txt: 2 tasks; 1 warning\n")
    assert result.err == (
        "tasks.txt:1:5: warning: lines end in CRLF\n"
        "  1 | true\n"
        "    |     ^\n"
        r"  help: the CR is not taken as a part of the command; to end every line in LF: sed -i 's/\r$//' tasks.txt" + "\n"
        "  help: `#TASKRUN ALLOW crlf` above it silences this\n"
    )


def test_unknown_directives_can_be_ignored(taskrun: Taskrun) -> None:
    result = taskrun("check", "--ignore-unknown", "tasks.txt", files={"tasks.txt": "#DISBATCH FOO\n#DISBATCHX\n"})
    assert (result.code, result.out) == (0, "tasks.txt: 1 task; 2 warnings\n")
    assert [line for line in result.err.split("\n") if "warning" in line] == [
        "tasks.txt:1:11: warning: unknown directive `FOO`",
        "tasks.txt:2:1: warning: `#DISBATCHX` is not a directive",
    ]


def test_standard_input(taskrun: Taskrun) -> None:
    result = taskrun("check", "-", stdin=b"true\n#TASKRUN REPEAT 2 true\n")
    assert (result.code, result.out, result.err) == (0, "-: 3 tasks; no problems\n", "")


def test_several_files_and_what_cannot_be_read(taskrun: Taskrun) -> None:
    result = taskrun("check", "task.txt", ".", "tasks.txt", files={"tasks.txt": "true\n"})
    assert (result.code, result.out) == (2, "tasks.txt: 1 task; no problems\n")
    assert result.err == "taskrun: task.txt: no such file; did you mean tasks.txt?\ntaskrun: .: is a folder, not a task file\n"


def test_very_wrong_files_are_cut_short(taskrun: Taskrun) -> None:
    result = taskrun("check", "tasks.txt", files={"tasks.txt": "#TASKRUN FOO\n" * 2000})
    assert result.code == 2
    assert result.err.count("unknown directive") == 50
    assert result.err.endswith("tasks.txt: 1,950 more errors not shown\ntasks.txt: 2,000 errors\n")


def test_strange_bytes_do_not_reach_the_terminal(taskrun: Taskrun) -> None:
    name = os.fsdecode(b"a\xff\x1b.txt")
    result = taskrun("check", name, files={name: b"#TASKRUN \x1b[31m\xff\n"})
    assert result.code == 2
    assert result.err.split("\n")[:3] == [
        r"a\xff\x1b.txt:1:10: error: unknown directive `\x1b[31m\xff`",
        r"  1 | #TASKRUN \x1b[31m\xff",
        r"    |          ^^^^^^^^^^^^",
    ]
    assert taskrun("check", name, files={name: "true\n"}).out == "a\\xff\\x1b.txt: 1 task; no problems\n"


@pytest.mark.parametrize(("env", "colour"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colour_is_for_terminals(taskrun: Taskrun, env: dict[str, str], colour: bool) -> None:
    taskrun.write({"bad.txt": BAD})
    master, slave = pty.openpty()
    with os.fdopen(master, "rb", buffering=0) as terminal:
        subprocess.run([*taskrun.command, "check", "bad.txt"], stderr=slave, cwd=taskrun.folder, env={**taskrun.env, **env}, check=False)
        os.close(slave)
        text = b""
        while b"3 errors" not in text:
            text += terminal.read(4096)
    assert (b"\x1b[1;31merror:\x1b[0m" in text) == colour
    assert (b"\x1b" in text) == colour


def test_help(taskrun: Taskrun) -> None:
    result = taskrun("check", "--help", env={"COLUMNS": "100"})
    assert result.code == 0
    assert result.out.startswith("usage: taskrun check [options] FILE …\n")
    assert "--ignore-unknown " in result.out
    assert "examples:\n  taskrun check tasks.txt\n" in result.out


def test_no_file_is_a_usage_error(taskrun: Taskrun) -> None:
    result = taskrun("check")
    assert (result.code, result.out) == (2, "")
    assert "the following arguments are required: FILE" in result.err


SLIPS = """\
#PREFIX cd /tmp &&\x20
make 'all
#PREFIX
for i in 1 2 3; do
  touch ran; )
done
grep \u2013c x y
"""


def test_lines_that_are_not_whole_commands_are_told_and_bash_is_asked(taskrun: Taskrun) -> None:
    files = {"tasks.txt": SLIPS, "wrong.txt": "#PREFIX exec\x20\ntouch ran | | x\n"}
    result = taskrun("check", "tasks.txt", files=files)
    assert (result.code, result.out) == (0, "tasks.txt: 5 tasks; 3 warnings\n")
    assert [line for line in result.err.splitlines() if "warning" in line] == [
        "tasks.txt:2:6: warning: ' has no end in this line",
        "tasks.txt:4:1: warning: for has no done in this line (and 2 more lines)",
        "tasks.txt:7:6: warning: a typographic dash \u2013 (U+2013) begins no option: programs take it as a letter",
    ]
    assert taskrun("check", "--strict", "tasks.txt").code == 2

    assert taskrun("check", "wrong.txt").code == 0
    asked = taskrun("check", "--syntax", "wrong.txt")
    assert (asked.code, asked.out) == (2, "")
    assert (
        asked.err
        == """\
wrong.txt:2:1: error: bash: syntax error near unexpected token `|'
  2 | touch ran | | x
    | ^^^^^^^^^^^^^^^
  help: as it is run: exec touch ran | | x
wrong.txt: 1 error
"""
    )
    assert taskrun("check", "--syntax", "-", stdin=b"true )\n" * 60).code == 2
    many = taskrun("check", "--syntax", "-", stdin=b"".join(b"%d )\n" % number for number in range(60)))
    assert many.err.endswith("-: 50 errors, 1 warning; bash was not asked about the lines below line 50\n")
    assert not (taskrun.folder / "ran").exists()
