"""check, --dry-run and the run print the same warnings, of a file and of a stream; --strict makes errors of them; ALLOW silences them."""

from __future__ import annotations

import re

from harness import Taskrun

TEXT = "#BARIER\n#SUFFIX > log\necho seed 2\n#TASKRUN FOREACH no*.x cat {}\n#SUFFIX \ntrue &\n"
LINES = [(1, "near-miss"), (3, "joined"), (4, "no-match"), (6, "background")]


def told(text: str, severity: str = "warning") -> list[tuple[int, str]]:
    """(line, kind) of each diagnostic."""
    found = re.findall(rf"^\S+?:(\d+):\d+: {severity}: .*\n(?:  .*\n)+?  help: `#TASKRUN ALLOW (\S+)` above", text, re.MULTILINE)
    return [(int(line), kind) for line, kind in found]


def test_the_same_warnings_wherever_the_file_is_read(taskrun: Taskrun) -> None:
    check = taskrun("check", "t.txt", files={"t.txt": TEXT})
    dry = taskrun("t.txt", "--dry-run", "-s", "localhost:1")
    run = taskrun("t.txt", "-s", "localhost:1", "-p", "a")
    assert [(each.code, told(each.err)) for each in (check, dry, run)] == [(0, LINES)] * 3
    whole = check.err
    assert dry.err.startswith(whole)
    assert run.err.startswith(whole)

    for arguments in (["check", "-"], ["-", "--dry-run", "-s", "localhost:1"], ["-", "-s", "localhost:1", "-p", "b"]):
        result = taskrun(*arguments, stdin=TEXT.encode())
        assert (result.code, told(result.err)) == (0, LINES), arguments

    for arguments in (["check", "t.txt"], ["t.txt", "--dry-run", "-s", "localhost:1"], ["t.txt", "-s", "localhost:1", "-p", "c"]):
        result = taskrun(*arguments, "--strict")
        assert (result.code, told(result.err)) == (2, [])
        assert told(result.err, "error") == [each for each in LINES if each[1] != "no-match"], "files are looked for in a sound file"
    assert not list(taskrun.folder.glob("c_*"))

    allowed = "#TASKRUN ALLOW near-miss joined no-match background\n" + TEXT
    for arguments in (["check", "t2.txt"], ["t2.txt", "-s", "localhost:1", "-p", "d"]):
        result = taskrun(*arguments, "--strict", files={"t2.txt": allowed})
        assert (result.code, "help:" in result.err) == (0, False)


def test_a_strict_stream_ends_at_its_first_warning(taskrun: Taskrun) -> None:
    text = "true\n#TASKRUN FOREACH no*.x cat {}\ntrue\n"
    result = taskrun("-", "-s", "localhost:1", "-p", "a", "--strict", stdin=text.encode())
    assert (result.code, told(result.err, "error")) == (3, [(2, "no-match")])
    assert "1 task done" in result.err
    result = taskrun("-", "-s", "localhost:1", "--dry-run", "--strict", stdin=text.encode())
    assert (result.code, told(result.err, "error")) == (2, [(2, "no-match")])
    assert taskrun("check", "-", "--strict", stdin=text.encode()).code == 2


def test_allow_is_no_edit_for_a_resume(taskrun: Taskrun) -> None:
    result = taskrun("t.txt", "-s", "localhost:1", "-p", "a", "-f", files={"t.txt": "false\ntrue &\ntrue\n"})
    assert result.code == 1
    taskrun.folder.joinpath("t.txt").write_text("false\n#TASKRUN ALLOW background\ntrue &\ntrue\n")
    result = taskrun("-r", "a_status.txt", "--dry-run")
    assert (result.code, told(result.err)) == (0, [])
