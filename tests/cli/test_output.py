"""What a task prints: counted and quoted, never kept."""

from __future__ import annotations

import ast
import os
import re
import shlex
import signal
import time

import pytest
from harness import Record, Taskrun, until


def run(taskrun: Taskrun, text: str | bytes, *flags: str) -> list[Record]:
    """The records by id."""
    result = taskrun("tasks.txt", "-s", "localhost:2", "-p", "run", *flags, files={"tasks.txt": text})
    assert result.code == 0, result.err
    return sorted(result.records(), key=lambda each: each["TaskID"])


def digits(count: int) -> str:
    return "".join(str(n % 10) for n in range(count))


@pytest.mark.parametrize("stream", ["1", "2"])
@pytest.mark.parametrize("starter", ["parallel", "builtin"])
def test_counts_and_snippets(taskrun: Taskrun, stream: str, starter: str) -> None:
    lengths = (1, 39, 40, 41, 79, 80, 81, 83, 84, 120, 5000, 200_000)
    records = run(taskrun, "".join(f"printf '%s' $(seq -s '' 0 {n} | head -c {n}) >&{stream}\n" for n in lengths), "--starter", starter)
    texts = ["".join(map(str, range(n + 1)))[:n] for n in lengths]
    shown = [repr(text if n <= 40 else f"{text[:40]}...{text[40:][-40:]}") for n, text in zip(lengths, texts, strict=True)]
    count, snippet, flag = (
        ("BytesOfLeakedOutput", "OutputSnippet", " O  ") if stream == "1" else ("BytesOfLeakedError", "ErrorSnippet", "  E ")
    )
    assert [(each["Flags"], each[count], each[snippet]) for each in records] == [
        (flag, n, text) for n, text in zip(lengths, shown, strict=True)
    ]


ODD = [
    (r"it'\''s", '"it\'s"'),
    (r"""both '\'' and \"""", "'both \\' and \"'"),
    (r"\t\n\r\\ end", r"'\t\n\r\\ end'"),
    (r"\0\1\033\177", r"'\x00\x01\x1b\x7f'"),
    (r"\303\251\342\202\254", "'é€'"),
    (r"\351", "'�'"),
    (r"\342\200\250\302\205", r"'\u2028\x85'"),
    (r"\360\237\246\212", "'🦊'"),
]  # fmt: skip


@pytest.mark.parametrize(("printed", "snippet"), ODD)
def test_how_snippets_are_written(taskrun: Taskrun, printed: str, snippet: str) -> None:
    (record,) = run(taskrun, f"printf '{printed}'\n")
    assert record["OutputSnippet"] == snippet


def test_a_character_cut_in_two(taskrun: Taskrun) -> None:
    (record,) = run(taskrun, "printf '%39s\\303\\251%39s' '' ''\n")
    assert (record["BytesOfLeakedOutput"], record["OutputSnippet"]) == (80, repr(" " * 39 + "�...�" + " " * 39))


def test_both_streams(taskrun: Taskrun) -> None:
    (record,) = run(taskrun, "echo o; echo error >&2; exit 5\n")
    assert (record["Flags"], record["BytesOfLeakedOutput"], record["OutputSnippet"]) == ("ROE ", 2, r"'o\n'")
    assert (record["BytesOfLeakedError"], record["ErrorSnippet"], record["ReturnCode"]) == (6, r"'error\n'", 5)


def test_devices(taskrun: Taskrun) -> None:
    """A pipe can be opened again under its name, and appending to it overwrites nothing."""
    text = "echo a > /dev/stderr; echo b >> /dev/stderr; echo c > /dev/stdout; echo d > /dev/fd/1; echo e > /proc/self/fd/2\n"
    (record,) = run(taskrun, text)
    assert (record["OutputSnippet"], record["ErrorSnippet"]) == (r"'c\nd\n'", r"'a\nb\ne\n'")


def test_much_output_costs_neither_time_memory_nor_disk(taskrun: Taskrun) -> None:
    size = 200_000_000
    look = 'grep VmHWM /proc/$PPID/status > memory_$TASKRUN_TASKID; du -sk "$TMPDIR" > disk_$TASKRUN_TASKID'
    records = run(taskrun, f"head -c {size} /dev/zero; {look}\nhead -c {size} /dev/zero >&2; {look}\n")
    assert [(each["BytesOfLeakedOutput"], each["BytesOfLeakedError"]) for each in records] == [(size, 0), (0, size)]
    for number in "01":
        kilobytes = int((taskrun.folder / f"memory_{number}").read_text().split()[1])
        assert kilobytes < 20_000, "of the slot"
        assert int((taskrun.folder / f"disk_{number}").read_text().split()[0]) < 1000
    assert all(each["Elapsed"] < 10 for each in records)
    assert records[0]["OutputSnippet"] == repr("\0" * 40 + "..." + "\0" * 40)


def test_small_writes_that_fill_the_pipe(taskrun: Taskrun) -> None:
    (record,) = run(taskrun, "for ((i = 0; i < 30000; i++)); do echo $i; done\n")
    text = "".join(f"{n}\n" for n in range(30000))
    assert (record["BytesOfLeakedOutput"], record["OutputSnippet"]) == (len(text), repr(text[:40] + "..." + text[-40:]))


@pytest.mark.parametrize("starter", ["parallel", "builtin"])
def test_a_background_child_that_keeps_the_pipe_does_not_hold_the_slot(taskrun: Taskrun, starter: str) -> None:
    text = "sleep 30 & echo $! > pid; echo said\necho next\n"
    began = time.monotonic()
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", "--starter", starter, files={"tasks.txt": text})
    took = time.monotonic() - began
    assert (taskrun.folder / "pid").read_text().strip() in {str(pid) for pid in taskrun.processes()}, "leftovers of a normal end stay"
    for pid in taskrun.processes():
        assert str(pid) == (taskrun.folder / "pid").read_text().strip()
    _end_leftover(taskrun)
    assert result.code == 0
    assert took < 5
    first, second = result.records()
    assert (first["TaskID"], first["BytesOfLeakedOutput"], first["OutputSnippet"]) == (0, 5, r"'said\n'")
    assert first["Elapsed"] < 2
    assert second["OutputSnippet"] == r"'next\n'"
    assert [(each["id"], each["left_behind"]) for each in result.events("attempt")] == [(0, True), (1, False)]


def _end_leftover(taskrun: Taskrun) -> None:
    os.kill(int((taskrun.folder / "pid").read_text()), signal.SIGKILL)
    until(lambda: not taskrun.processes(), what="the leftover to end")


def test_a_background_child_that_prints_for_ever(taskrun: Taskrun) -> None:
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", files={"tasks.txt": "yes & echo $! > pid\necho next\n"})
    assert result.code == 0
    assert sorted(each["TaskID"] for each in result.records()) == [0, 1]
    until(lambda: not taskrun.processes(), what="it to meet its closed pipe")


def test_what_a_task_has_printed_before_it_ends_is_counted(taskrun: Taskrun) -> None:
    """Also when a child prints it just before bash ends, and when nothing reads until then."""
    records = run(taskrun, "#TASKRUN REPEAT 60 head -c 60000 /dev/zero; /bin/echo $TASKRUN_REPEAT_INDEX >&2\n")
    assert [(each["BytesOfLeakedOutput"], each["ErrorSnippet"]) for each in records] == [(60000, rf"'{n}\n'") for n in range(60)]


def test_closed_streams(taskrun: Taskrun) -> None:
    text = "exec >&- 2>&-; sleep 0.2; exit 7\nexec > /dev/null 2>&1; echo lost\nexec 2>&1; echo one >&2\n"
    records = run(taskrun, text)
    assert [(each["ReturnCode"], each["BytesOfLeakedOutput"], each["BytesOfLeakedError"]) for each in records] == [
        (7, 0, 0),
        (0, 0, 0),
        (0, 4, 0),
    ]


def test_output_of_a_command_that_is_killed(taskrun: Taskrun) -> None:
    (record,) = run(taskrun, "echo before; kill -9 $$\n")
    assert (record["Flags"], record["ReturnCode"], record["OutputSnippet"]) == ("RO  ", -9, r"'before\n'")


def test_attempts_are_in_the_events(taskrun: Taskrun) -> None:
    text = f"i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done; echo {digits(50)}; echo e >&2; exit 3\n"
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", files={"tasks.txt": text})
    (attempt,) = result.events("attempt")
    (record,) = result.records()
    assert {name: attempt[name] for name in ("id", "n", "slot", "cause", "code", "out_bytes", "err_bytes", "left_behind")} == {
        "id": 0, "n": 1, "slot": 0, "cause": "exit", "code": 3, "out_bytes": 51, "err_bytes": 2, "left_behind": False,
    }  # fmt: skip
    assert 0.01 < attempt["utime"] + attempt["stime"] <= record["Elapsed"] + 0.05
    assert 1_000_000 < attempt["maxrss"] < 100_000_000
    assert attempt["queued"] <= attempt["start"] <= attempt["end"]
    assert (attempt["start"], attempt["end"]) == (record["Start"], record["Finish"])
    assert not re.search("0123456789", (taskrun.folder / "run_events.jsonl").read_text()), "never a task's text"


@pytest.mark.parametrize("env", [{"LC_ALL": "POSIX"}, {"LANG": "C"}, {"PYTHONIOENCODING": "ascii"}])
def test_in_a_locale_of_ascii_all_that_is_said_is_ascii(taskrun: Taskrun, env: dict[str, str]) -> None:
    name = "n\u00e4chte.txt"
    taskrun.write({name: "echo " + "\u00e4" * 100 + "; exit 3\n#BARIER\n#TASKRUN FOREACH *.txt echo {}\n"})
    run = taskrun(name, "-s", "1", env=env)
    said = [run, taskrun(name, "--dry-run", "-s", "2", env=env), taskrun("check", name, env=env), taskrun("check", "gone\u00e4", env=env)]
    said += [taskrun("--help", env=env), taskrun("monitor", run.path("status.txt").name, env=env)] if "LC_ALL" in env else []
    assert all(each.err.isascii() for each in said)
    assert all(each.out.isascii() for each in (said[0], *said[2:]))  # of a dry run programs get the bytes of the commands
    assert " failed in " in run.err
    assert "..." in run.err
    again = run.err.rpartition(": taskrun ")[2]
    shell = Taskrun(taskrun.folder, taskrun.env, command=("/bin/bash", "-c"))
    assert shell(f"{shlex.join(taskrun.command)} {again.strip()} --dry-run", env=env).code == 0
    shell.close()


def test_the_end_of_an_error_text_is_shown_and_kept(taskrun: Taskrun) -> None:
    """Where a traceback says what is wrong; the status columns stay as they were. Nothing of it for tasks that succeed."""
    text = "seq 100 >&2\nseq 400 >&2; printf 'File x\\nErr\\033or: caf\\xe9 {}\\n' >&2; exit 3\n#REPEAT 1 start 4 seq 60; kill -9 $$\n"
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", files={"tasks.txt": text})
    lines = result.err.splitlines()
    assert lines[2:5] == ["      400", "      File x", r"      Err\x1bor: caf\xe9 {}"]
    assert lines[5:9] == ["  line 3, index 4, task 2, signal 9: seq 60; kill -9 $$", "      58", "      59", "      60"]
    ok, failed, killed = sorted(result.events("attempt"), key=lambda each: int(each["id"]))
    assert "tail" not in ok
    assert len(failed["tail"]) == 1024
    assert failed["tail"].endswith("\n400\nFile x\nErr\x1bor: caf\udce9 {}\n")
    assert killed["tail"] == "".join(f"{n}\n" for n in range(1, 61))
    snippet = next(ast.literal_eval(each["ErrorSnippet"]) for each in result.records() if each["TaskID"] == 1)
    assert (len(snippet), snippet[40:43]) == (83, "...")
