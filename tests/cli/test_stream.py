"""Tasks from a pipe: they start as lines arrive, what was read is kept, and a run of a stream is carried on."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
import time

from harness import Running, Taskrun, until

WRONG = "#TASKRUN BARIER\n"


def ran(taskrun: Taskrun) -> list[str]:
    path = taskrun.folder / "ran"
    names = sorted(path.read_text().split()) if path.exists() else []
    path.unlink(missing_ok=True)
    return names


class Stream:
    """A run that reads from us."""

    def __init__(self, taskrun: Taskrun) -> None:
        read, self.write_fd = os.pipe()
        with os.fdopen(read, "rb") as file:
            self.running: Running = taskrun.start("-", "-s", "localhost:2", "-p", "run", stdin=file)

    def write(self, text: str) -> None:
        os.write(self.write_fd, text.encode())

    def close(self) -> None:
        os.close(self.write_fd)


def test_tasks_start_as_lines_arrive(taskrun: Taskrun) -> None:
    stream = Stream(taskrun)
    for number in range(3):
        stream.write(f"touch at_{number}\n")
        until((taskrun.folder / f"at_{number}").exists, 5, f"task {number}, with no line after it")
    stream.write("touch half")
    time.sleep(0.3)
    assert not (taskrun.folder / "half").exists(), "a line is a line when its end has come"
    stream.write("_line")
    stream.close()
    result = stream.running.finish()
    assert result.code == 0
    assert (taskrun.folder / "half_line").exists()
    assert result.path("tasks.txt").read_text() == "touch at_0\ntouch at_1\ntouch at_2\ntouch half_line"
    assert result.sidecar()["stream_complete"] is True
    assert [each["LineNum"] for each in sorted(result.records(), key=lambda each: each["TaskID"])] == [1, 2, 3, 4]


def test_a_record_is_there_while_the_stream_is_silent(taskrun: Taskrun) -> None:
    stream = Stream(taskrun)
    stream.write("true\n")
    status = taskrun.folder / "run_status.txt"
    until(lambda: status.exists() and status.read_text().endswith("\ttrue\n"), 5)
    stream.close()
    assert stream.running.finish().code == 0


def test_directives_work_as_in_a_file(taskrun: Taskrun) -> None:
    text = "#TASKRUN PERENGINE START echo start >> ran\n#TASKRUN PREFIX echo \n#TASKRUN REPEAT 2 r >> ran\n"
    text += "#TASKRUN BARRIER CHECK\nlast >> ran\n"
    result = taskrun("-", "-s", "localhost:1", "-p", "run", stdin=text.encode())
    assert result.code == 0, result.err
    assert (taskrun.folder / "ran").read_text().split() == ["start", "r", "r", "last"]


def test_a_barrier_does_not_wait_for_the_end_of_the_stream(taskrun: Taskrun) -> None:
    stream = Stream(taskrun)
    stream.write("sleep 0.3; touch before\n#TASKRUN BARRIER\ntest -e before && touch after\n")
    until((taskrun.folder / "after").exists, 5)
    stream.close()
    assert stream.running.finish().code == 0


def test_a_regular_file_as_standard_input(taskrun: Taskrun) -> None:
    text = "echo a >> ran\necho b >> ran\n"
    taskrun.write({"tasks.txt": text})
    with (taskrun.folder / "tasks.txt").open("rb") as file:
        result = taskrun("-", "-s", "localhost:2", "-p", "run", stdin=file)
    assert (result.code, ran(taskrun)) == (0, ["a", "b"])
    assert result.path("tasks.txt").read_text() == text


def test_its_name(taskrun: Taskrun) -> None:
    result = taskrun("-", "-s", "localhost:2", stdin=b"echo $TASKRUN_NAMETASKS >> ran\n")
    assert (result.code, ran(taskrun)) == (0, ["stdin"])
    assert result.path("status.txt").name.startswith("stdin_")


def test_an_empty_stream(taskrun: Taskrun) -> None:
    result = taskrun("-", "-s", "localhost:2", "-p", "run", stdin=b"")
    assert (result.code, result.err) == (0, "taskrun: No tasks to run.\n")


def test_standard_input_that_is_closed(taskrun: Taskrun) -> None:
    shell = Taskrun(taskrun.folder, taskrun.env, taskrun.started, ("/bin/bash", "-c"))
    result = shell(f"exec {shlex.quote(sys.executable)} -m taskrun - -s localhost:1 -p run <&-")
    assert result.code == 2, result.err
    assert "Traceback" not in result.err
    assert os.listdir(taskrun.folder) == []


def test_a_fifo(taskrun: Taskrun) -> None:
    fifo = taskrun.folder / "fifo"
    os.mkfifo(fifo)
    running = taskrun.start("fifo", "-s", "localhost:2", "-p", "run")

    def write() -> None:
        with fifo.open("w") as file:
            file.write("echo $TASKRUN_NAMETASKS >> ran\n")
            file.flush()
            until((taskrun.folder / "ran").exists, 5, "its first task")
            file.write("echo second >> ran\n")

    writer = threading.Thread(target=write)
    writer.start()
    result = running.finish()
    writer.join()
    assert (result.code, ran(taskrun)) == (0, ["fifo", "second"])
    assert result.path("tasks.txt").exists()


def test_a_first_line_that_is_wrong_is_refused(taskrun: Taskrun) -> None:
    result = taskrun("-", "-s", "localhost:2", "-p", "run", stdin=(WRONG + "echo a >> ran\n").encode())
    assert (result.code, ran(taskrun)) == (2, []), result.err
    assert result.err.startswith("-:1:10: error: unknown directive `BARIER`\n")
    assert not (taskrun.folder / "run_status.txt").exists(), "so that the corrected command can use the same prefix"


def test_a_later_line_that_is_wrong_drains(taskrun: Taskrun) -> None:
    stream = Stream(taskrun)
    stream.write("sleep 1; echo a >> ran\necho b >> ran\n")
    until((taskrun.folder / "ran").exists, 5)
    stream.write(WRONG + "echo c >> ran\n")
    result = stream.running.finish()
    stream.close()
    assert (result.code, ran(taskrun)) == (3, ["a", "b"]), result.err
    assert "-:3:10: error: unknown directive `BARIER`\n" in result.err
    assert sorted(each["ReturnCode"] for each in result.records()) == [0, 0]
    assert result.sidecar()["stream_complete"] is False


def interrupted(taskrun: Taskrun) -> None:
    """A stream of which two lines were read, one of which has run."""
    stream = Stream(taskrun)
    stream.write("echo a >> ran\ntest -e now || sleep 30; echo b >> ran\n")
    until(lambda: (taskrun.folder / "run_status.txt").exists() and (taskrun.folder / "run_status.txt").read_text(), 5)
    until(lambda: (taskrun.folder / "run_tasks.txt").read_text().count("\n") == 2, 5)
    stream.running.send(signal.SIGTERM)
    result = stream.running.finish()
    stream.close()
    assert (result.code, ran(taskrun)) == (3, ["a"])
    assert result.sidecar()["stream_complete"] is False
    (taskrun.folder / "now").touch()


def test_a_stream_that_had_not_ended_is_given_again(taskrun: Taskrun) -> None:
    interrupted(taskrun)
    refused = taskrun("-r", "run_status.txt", "-p", "two")
    assert (refused.code, ran(taskrun)) == (2, [])
    assert "generate | taskrun - -r " in refused.err
    assert "--as-is" in refused.err
    text = "echo a >> ran\ntest -e now || sleep 30; echo b >> ran\necho c >> ran\n"
    again = taskrun("-", "-r", "run_status.txt", "-s", "localhost:2", "-p", "two", stdin=text.encode())
    assert (again.code, ran(taskrun)) == (0, ["b", "c"]), again.err
    assert again.path("tasks.txt").read_text() == text
    done = taskrun("-r", "two_status.txt", "-p", "three")
    assert (done.code, ran(taskrun)) == (0, [])


def test_what_was_read_of_a_stream_as_it_is(taskrun: Taskrun) -> None:
    interrupted(taskrun)
    result = taskrun("-r", "run_status.txt", "--as-is", "-p", "two")
    assert (result.code, ran(taskrun)) == (0, ["b"]), result.err


def test_a_stream_that_had_ended_is_carried_on_without_it(taskrun: Taskrun) -> None:
    first = taskrun("-", "-s", "localhost:2", "-p", "run", stdin=b"echo a >> ran\ntest -e now && echo b >> ran\n")
    assert (first.code, ran(taskrun)) == (0, ["a"])
    (taskrun.folder / "now").touch()
    result = taskrun("-r", "run_status.txt", "-R", "-p", "two")
    assert (result.code, ran(taskrun)) == (0, ["b"]), result.err


def test_another_stream_is_found_out_and_drains(taskrun: Taskrun) -> None:
    taskrun("-", "-s", "localhost:2", "-p", "run", stdin=b"echo a >> ran\necho b >> ran\n")
    assert ran(taskrun) == ["a", "b"]
    text = b"echo a >> ran\necho other >> ran\necho c >> ran\n"
    result = taskrun("-", "-r", "run_status.txt", "-s", "localhost:2", "-p", "two", stdin=text)
    assert (result.code, ran(taskrun)) == (3, [])
    assert "    on record, line 2: echo b >> ran\n" in result.err
    assert "    now, line 2:       echo other >> ran\n" in result.err


def test_a_long_stream(taskrun: Taskrun) -> None:
    result = taskrun("-", "-s", "localhost:2", "-p", "run", stdin=b"true\n" * 2000, timeout=50)
    assert result.code == 0
    assert sorted(each["TaskID"] for each in result.records()) == list(range(2000))
