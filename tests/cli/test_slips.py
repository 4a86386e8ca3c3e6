"""Plausible input that used to mean something else than its author thinks, end to end. The rules themselves are in tests/unit."""

from __future__ import annotations

import shlex

from harness import Taskrun


def test_a_file_of_a_run_is_not_run_and_names_the_run(taskrun: Taskrun) -> None:
    taskrun("tasks.txt", "-s", "1", "-p", "run", files={"tasks.txt": "touch ran\nfalse\n"})
    (taskrun.folder / "ran").unlink()
    before = sorted(taskrun.folder.iterdir())
    status = (taskrun.folder / "run_status.txt").read_bytes()
    told = "run_status.txt:1:1: error: this is a status file: taskrun -r run_status.txt carries on from it\n"
    for words in (("run_status.txt", "-s", "1"), ("run_status.txt", "-s", "1", "--dry-run"), ("check", "run_status.txt")):
        result = taskrun(*words)
        assert (result.code, result.out, result.err.count(told)) == (2, "", 1)
    for words in (("-", "-s", "1"), ("check", "-")):
        result = taskrun(*words, stdin=status)
        assert (result.code, result.out) == (2, "")
        assert result.err.startswith("-:1:1: error: this is a status file: taskrun -r STATUS carries on from it\n")
    for name in ("run_run.json", "run_events.jsonl", "run_driver.log"):
        assert f"{name}:1:1: error: this is the " in taskrun("check", name).err
    assert sorted(taskrun.folder.iterdir()) == before
    for name in ("run", "run_run.json", "run_events.jsonl"):
        assert taskrun("-r", name, "-R", "--dry-run").out.split("\t")[0::5][:2] == ["skip", "touch ran\nretry"]
    assert taskrun("-r", "run", "--append", "-R").code == 0
    assert not (taskrun.folder / "ran").exists()


def test_records_in_crlf_are_carried_on(taskrun: Taskrun) -> None:
    text = "echo $((1+1)) >> ran\n#TASKRUN FOREACH *.in cat {} >> ran\n"
    taskrun("tasks.txt", "-s", "1", "-p", "run", files={"tasks.txt": text, "a.in": "a\n", "b.in": "b\n"})
    for name in ("run_status.txt", "run_run.json", "run_events.jsonl", "run_files.txt"):
        path = taskrun.folder / name
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    (taskrun.folder / "c.in").touch()
    with (taskrun.folder / "tasks.txt").open("a") as file:
        file.write("echo more >> ran\n")
    for words in (("-p", "two"), ("--append",), ("--append",)):  # the last one reads what is mixed
        assert taskrun("-r", "run", *words).code == 0
    assert (taskrun.folder / "ran").read_text() == "2\na\nb\nmore\nmore\n"
    assert b"\r" not in (taskrun.folder / "two_status.txt").read_bytes()


def test_files_whose_names_would_be_options(taskrun: Taskrun) -> None:
    text = '#TASKRUN FOREACH *.txt cat {} > out_{}; cat "$TASKRUN_FILE" >> log\n'
    taskrun.write({"-n.txt": "n\n", "-e -v.txt": "v\n", "tasks": text})
    result = taskrun("tasks", "-s", "1", "-p", "run")
    assert (result.code, [record["ReturnCode"] for record in result.records()]) == (0, [0, 0])
    assert [record["Command"] for record in result.records()] == [
        "cat './-e -v.txt' > out_'-e -v.txt'; cat \"$TASKRUN_FILE\" >> log",
        'cat ./-n.txt > out_-n.txt; cat "$TASKRUN_FILE" >> log',
    ]
    assert (taskrun.folder / "log").read_text() == "v\nn\n"
    assert (taskrun.folder / "out_-n.txt").read_text() == "n\n"
    assert taskrun("-r", "run", "--dry-run").out.count("skip\t") == 2


def test_what_comes_from_a_descriptor_is_named_stdin_and_records_of_tasks_that_are_gone_are_told(taskrun: Taskrun) -> None:
    shell = Taskrun(taskrun.folder, taskrun.env, command=("/bin/bash", "-c"))
    command = shlex.join(taskrun.command)
    result = shell(f"{command} <(seq -f 'echo %g' 4) -s 2 && {command} - -r stdin_*_status.txt -p two <<< 'echo 1'")
    shell.close()
    assert result.code == 0
    assert "3 records of stdin_" in result.err
    assert "are of tasks that the stream does not have any more (task 1: echo 2; task 2: echo 3; task 3: echo 4)" in result.err
    assert [path.name.split("_")[0] for path in taskrun.folder.glob("*_status.txt") if path.name != "two_status.txt"] == ["stdin"]
    assert len(result.records("two")) == 1
