"""Nothing that a terminal would obey reaches it, whoever wrote it: names, commands, records, locks, hosts."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import subprocess
import unicodedata
from pathlib import Path

import pytest
from harness import Taskrun, until

from taskrun.errors import told
from taskrun.model import HostSeen, Result, Task
from taskrun.observers import hosts, monitor
from taskrun.observers.frame import Painter
from taskrun.observers.monitor_view import MonitorView
from taskrun.observers.progress import Progress, Times
from taskrun.status.events import event_line
from taskrun.visible import line_of, visible

#: A title, a CSI in one byte and in two, a line that writes over another, text that runs the other way, bytes that are no UTF-8.
HOSTILE = "\x1b]0;owned\x07\x9b31m\x1b[2J\rsafe\x08\x7f\u202egnp\u2066x\u200b"
BYTES = HOSTILE.encode() + b"\x9b2J\xff"
#: What our own views send; the hostile text has no `\r` but the one before `safe`.
OURS = re.compile(r"\x1b\[(?:[0-9;]*m|J|2?K|[0-9]*A)|\r(?!safe)")


def harmless(text: str) -> bool:
    """No control, format, surrogate, private or unassigned character but line ends and tabs."""
    return all(char in "\n\t" or unicodedata.category(char)[0] != "C" for char in text)


def on_terminal(taskrun: Taskrun, *words: str | bytes, env: dict[str, str] | None = None) -> tuple[int, str]:
    """(exit code, what has reached the terminal) of a command, without the colours and line ends of its own."""
    master, slave = pty.openpty()
    received = b""
    try:
        process = subprocess.Popen(
            [*taskrun.command, *words], stdin=subprocess.DEVNULL, stdout=slave, stderr=slave, cwd=taskrun.folder,
            env={**taskrun.env, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24", **(env or {})}, start_new_session=True,
        )  # fmt: skip
        os.close(slave)
        slave = -1
        with contextlib.suppress(OSError):  # EIO: nobody has it open any more
            while data := os.read(master, 1 << 16):
                received += data
        code = process.wait(30)
    finally:
        os.close(master)
        if slave >= 0:
            os.close(slave)
    return code, OURS.sub("", received.decode("utf-8", "surrogateescape").replace("\r\n", "\n"))


def test_the_one_function() -> None:
    assert visible(HOSTILE) == r"\x1b]0;owned\x07\x9b31m\x1b[2J\rsafe\x08\x7f\u202egnp\u2066x\u200b"
    assert visible("a\nb\tc", keep="\n") == "a\nb\\tc"
    assert visible(visible(HOSTILE)) == visible(HOSTILE)
    assert line_of(b"run\t1\t" + BYTES + b"\n").endswith("\\x9b2J\\xff\n")
    assert told(f"one\ntwo{HOSTILE}").startswith("taskrun: one\ntwo\\x1b")
    assert harmless(told(HOSTILE))


def test_refusals_that_quote_arguments_and_names(taskrun: Taskrun) -> None:
    for words in (
        (HOSTILE,), ("tasks.txt", f"--{HOSTILE}"), ("tasks.txt", "-s", HOSTILE), ("tasks.txt", "-c", HOSTILE), ("-r", HOSTILE),
        ("tasks.txt", "-s", "localhost:1", "-p", f"/nowhere/{HOSTILE}"), ("monitor", HOSTILE), ("attach", HOSTILE, "-s", "localhost:1"),
        ("check", HOSTILE),
        ("tasks.txt", "-s", "localhost:1", "--ssh", HOSTILE, "-r", HOSTILE), ("completion", HOSTILE), ("submit", HOSTILE),
    ):  # fmt: skip
        code, text = on_terminal(taskrun, *(os.fsencode(word) for word in words))
        assert code == 2, text
        assert harmless(text), (words, text)


@pytest.fixture
def one(taskrun: Taskrun) -> Path:
    """A run that has been, with a failed task of an odd name. Its prefix."""
    taskrun.write({"tasks.txt": b"true\nfalse # " + HOSTILE.replace("\r", "").encode() + b"\x9b\xff\n"})
    assert taskrun("tasks.txt", "-s", "localhost:1", "-p", "one").code == 0
    return taskrun.folder / "one"


def test_tasks_on_a_terminal(taskrun: Taskrun, one: Path) -> None:
    code, text = on_terminal(taskrun, "tasks.txt", "-s", "localhost:1", "--dry-run")
    assert (code, harmless(text)) == (0, True), text
    assert r"\x1b]0;owned\x07" in text
    raw = taskrun("tasks.txt", "-s", "localhost:1", "--dry-run").out.encode("utf-8", "surrogateescape")
    assert raw.splitlines()[1].endswith(b"\x9b\xff")
    for words in (("tasks.txt", "-s", "localhost:1", "-p", "two"), ("-r", "one_status.txt", "-R", "-p", "three"), ("check", "tasks.txt")):
        code, text = on_terminal(taskrun, *words)
        assert (code, harmless(text)) == (0, True), text
    taskrun.write({"tasks.txt": b"false # \x1b[31m\ntrue\n"})
    code, text = on_terminal(taskrun, "-r", "one_status.txt", "-p", "four")
    assert (code, harmless(text)) == (2, True), text
    assert "on record" in text
    taskrun.write({"wrong.txt": b"#TASKRUN \x1b]0;x\x07 REPEAT\n"})
    code, text = on_terminal(taskrun, "wrong.txt", "-s", "localhost:1")
    assert (code, harmless(text), text.startswith("wrong.txt:1:")) == (2, True, True), text


def test_a_lock_and_a_sidecar(taskrun: Taskrun, one: Path) -> None:
    sidecar = one.with_name("one_run.json")
    values = json.loads(sidecar.read_bytes())
    for changes in (
        {"cwd": f"/nowhere/{HOSTILE}\ntaskrun: all is well"},
        {"status": HOSTILE, "task_file": {"path": f"/{HOSTILE}", "sha256": "", "size": 1}},
        {"options": {"ssh": {"value": f"{HOSTILE}\nx"}, "hosts": {"value": ["far:1"]}}},
        {"contexts": [{HOSTILE: "\udcff", "kind": 1}]},
        {"cwd": f"{one.parent}/", "options": {"retire_cmd": {"value": HOSTILE}, "hosts": {"value": [HOSTILE]}}},
    ):
        sidecar.write_text(json.dumps(values | changes))
        code, text = on_terminal(taskrun, "-r", "one_status.txt")
        assert (code, harmless(text)) == (2, True), text
        assert len(text.splitlines()) <= 2, "what was inherited, and the refusal: no line of theirs"
    assert r"\x1b]0;owned\x07" in text
    sidecar.write_text(json.dumps(values))
    lock = {"v": 1, "run_id": "r", "host": "elsewhere", "boot_id": "b", "pid": 1, "start_time": 1, "since": 1.0}
    for name in ("host", "run_id"):
        one.with_name("one.lock").write_text(json.dumps(lock | {name: HOSTILE}))
        code, text = on_terminal(taskrun, "-r", "one_status.txt", "--append")
        assert (code, harmless(text)) == (2, True), text


def test_a_status_line_and_events(taskrun: Taskrun, one: Path) -> None:
    status = one.with_name("one_status.txt")
    first, second = status.read_bytes().splitlines(keepends=True)
    columns = first.split(b"\t")
    columns[4] = BYTES.replace(b"\r", b"")
    status.write_bytes(b"\t".join(columns) + second)
    code, text = on_terminal(taskrun, "-r", "one_status.txt", "--dry-run")
    assert (code, harmless(text)) == (0, True), text
    status.rename(status.with_name(f"odd{HOSTILE}"))
    code, text = on_terminal(taskrun, "tasks.txt", "-s", "localhost:1", "-r", f"odd{HOSTILE}")
    assert (code, harmless(text)) == (0, True), text
    with one.with_name("one_events.jsonl").open("ab") as events:
        joined = {"what": "joined", "context": HOSTILE}
        for event in (
            event_line("wait", 2e9, why=HOSTILE), event_line("told", 2e9, signal=HOSTILE),
            event_line("context", 2e9, **joined, guest=HOSTILE),
            event_line("engine", 2e9, **joined, engine=HOSTILE, host=HOSTILE, rank=0, slots=1),
            event_line("engine", 2e9, what=HOSTILE, engine=HOSTILE),
        ):  # fmt: skip
            events.write(event)
    code, text = on_terminal(taskrun, "monitor", "one")
    assert (code, harmless(text), "owned" in text) == (0, True, True), text


def test_a_live_view(taskrun: Taskrun) -> None:
    """Words of hosts and names of tasks are shown as escapes while the run goes on."""
    taskrun.write({"tasks.txt": b"echo '\x1b]0;x\x07' >&2; false # \xc2\x9b\n"})
    code, text = on_terminal(taskrun, "tasks.txt", "-s", "localhost:1")
    assert (code, harmless(text)) == (0, True), text
    painter = Painter("utf-8", color=True)
    result = Result("task", 0, 1, "exit", 1, 1, 0, 0.0, 1.0, 1.0, 0.0, 0.0, 0, 1, b"", 1, BYTES, False)
    progress = Progress(1, 1, 0, 0, 1, 1, waiting=HOSTILE, failures=((Task(0, 1, -1, BYTES), result),))
    lines = painter.frame(progress, Times(1.0), 200, 20)
    lines += painter.frame(progress._replace(waiting="", data=HOSTILE), Times(1.0), 200, 20)
    view = MonitorView("utf-8", color=True)
    engine = {"name": HOSTILE, "context": HOSTILE, "host": HOSTILE, "state": HOSTILE, "slots": 1, "running": 0, "finished": 0, "failed": 0}
    context = {"name": HOSTILE, "state": HOSTILE, "from": HOSTILE}
    view.show({"prefix": HOSTILE, "state": HOSTILE, "waiting": HOSTILE, "contexts": [context], "engines": [engine]})
    lines += view.frame(200, 40)
    view.key("E")
    lines += view.frame(200, 40)
    view.key("n")
    view.said = HOSTILE
    lines += view.frame(200, 40)
    assert harmless(OURS.sub("", "\n".join(line for line, _ in lines)))
    assert "owned" in "".join(line for line, _ in lines)


def test_what_hosts_say_of_themselves() -> None:
    seen = HostSeen(address=HOSTILE, slots=1, why=HOSTILE, notes=(HOSTILE,), python=HOSTILE, parallel=HOSTILE, perl=True, cores=1, memory=1,
                    ahead=None, latency=None, shared=False)  # fmt: skip
    assert all(map(harmless, hosts.table([seen], HOSTILE)))
    assert harmless(monitor.text({"prefix": HOSTILE, "waiting": HOSTILE}))


def test_the_log_of_a_run(taskrun: Taskrun) -> None:
    """The log is read on a terminal, too."""
    assert taskrun("tasks.txt", "-s", "localhost:1", "-p", "one", "-l", "\x1b[2J", files={"tasks.txt": "true\n"}).code in (0, 2)
    log = taskrun.folder / "one_driver.log"
    if log.exists():
        assert harmless(until(lambda: log.read_text("utf-8", "surrogateescape")))
