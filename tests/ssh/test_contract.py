"""What holds for an engine however it is reached: on this machine, over SSH by paramiko, over SSH by the user's own program.

And in a step of a SLURM job: tests/slurm/test_contract.py runs these tests, too.
"""

from __future__ import annotations

import os
import re
import signal
import time

import pytest
from harness import until
from ssh.place import WORKDIR, Place


def test_results(place: Place) -> None:
    before = time.time()
    result = place("true\nexit 3\nkill -9 $$\nexit 255\nno-such-program-here\necho $TASKRUN_TASKID > it; sleep 0.2\n")
    assert result.code == 0
    records = {each["TaskID"]: each for each in result.records()}
    assert [records[k]["ReturnCode"] for k in range(6)] == [0, 3, -9, 255, 127, 0]
    for each in records.values():
        assert each["Node"] == place.node
        assert each["PID"] > 1
        assert before - 1 < each["Start"] <= each["Finish"] < time.time() + 1
    assert 0.2 <= records[5]["Elapsed"] < 30
    assert place.read("it") == "5\n"
    assert [each["LineNum"] for _, each in sorted(records.items())] == [1, 2, 3, 4, 5, 6]
    assert {each["cause"] for each in result.events("attempt")} == {"ok", "exit", "signal"}


def test_output(place: Place) -> None:
    text = "echo out; echo err >&2\nseq 100000\nprintf 'x\\ty\\n\\\\'\nhead -c 300000 /dev/zero >&2\n"
    records = sorted(place(text).records(), key=lambda each: each["TaskID"])
    assert [(each["BytesOfLeakedOutput"], each["BytesOfLeakedError"]) for each in records] == [(4, 4), (588895, 0), (5, 0), (0, 300000)]
    assert (records[0]["OutputSnippet"], records[0]["ErrorSnippet"]) == (r"'out\n'", r"'err\n'")
    assert records[1]["OutputSnippet"].endswith(r"100000\n'")
    assert records[2]["OutputSnippet"] == r"'x\ty\n\\'"


def test_bytes_that_are_not_utf8(place: Place) -> None:
    result = place(b"printf '\xff\xfe' > '\xe9\xff name'; printf '\\377\\n\xc3\xa9'\n")
    (record,) = result.records()
    assert record["ReturnCode"] == 0
    assert record["Command"].startswith(r"""b"printf '\xff\xfe' > '\xe9\xff name'""")
    assert (record["BytesOfLeakedOutput"], record["OutputSnippet"]) == (4, "'\ufffd\\né'")
    assert (place.folder / os.fsdecode(b"\xe9\xff name")).read_bytes() == b"\xff\xfe"


def test_long_lines(place: Place) -> None:
    """Longer than an argument may be, than a message to a slot, than a read of a link."""
    sizes = [120_000, 140_000, 3_000_000]
    records = sorted(place("".join(f"x={'a' * size}; echo ${{#x}}\n" for size in sizes)).records(), key=lambda each: each["TaskID"])
    assert [each["OutputSnippet"] for each in records] == [rf"'{size}\n'" for size in sizes]
    assert [each["ReturnCode"] for each in records] == [0, 0, 0]


def test_many_short_tasks(place: Place) -> None:
    result = place("#TASKRUN REPEAT 1000 exit $((TASKRUN_REPEAT_INDEX % 7))\n", "-q")
    assert result.code == 0
    codes = {each["TaskID"]: each["ReturnCode"] for each in result.records()}
    assert codes == {number: number % 7 for number in range(1000)}


def test_environment(place: Place) -> None:
    names = ("TASKID", "JOBID", "NAMETASKS", "STREAM_INDEX", "REPEAT_INDEX", "CORES_PER_TASK", "ENGINE_RANK", "CYLINDER_RANK", "TASKID_ZP")
    text = "env > env0\n#TASKRUN REPEAT 1 start 7 env > env1\n"
    flags = ("--env", "CARRIED", "--env", "SET=a b='c'") if place.remote else ()
    result = place(text, *flags, slots=1, env={"CARRIED": "é $x\n2", "LOCAL_ONLY": "1"})
    assert result.code == 0
    env = dict(line.split("=", 1) for line in place.read("env1").splitlines() if "=" in line)
    values = [env[f"TASKRUN_{name}"] for name in names]
    assert values == ["1", "run", "tasks.txt", "2", "7", "1", "0", "0", "000001"]
    assert [env[f"DISBATCH_{name}"] for name in names] == values
    assert env["TASKRUN_ATTEMPT"].endswith(".1.1")
    assert int(env["SHLVL"]) >= 1
    assert not [name for name in env if name.startswith(("PARALLEL", "PERL"))]
    if place.hosts is None:
        assert env["LOCAL_ONLY"] == "1"
        return
    assert "LOCAL_ONLY" not in env
    assert env["CARRIED"] == "é $x"  # its second line is one of its own
    assert env["SET"] == "a b='c'"
    over_ssh = dict(line.split("=", 1) for line in place.hosts.ssh(1, "env").stdout.splitlines())
    for name in ("HOME", "PATH", "USER", "LOGNAME", "SHELL"):
        assert env[name] == over_ssh[name]
    assert "SSH_CONNECTION" in env


def test_no_rc_file_is_read(place: Place) -> None:
    """The login over ssh reads ~/.bashrc, once. A bash with a SHLVL of 0 takes itself for such a login: no task's is 0."""
    if place.hosts is not None:
        place.hosts.path(1, "/root/.bashrc").write_text(f"echo noise; echo read >> {WORKDIR}/rc; export FROM_RC=1\n")
    result = place('#TASKRUN REPEAT 5 echo "$FROM_RC"; test $SHLVL -ge 1\n', slots=1)
    assert {each["ReturnCode"] for each in result.records()} == {0}
    assert {each["OutputSnippet"] for each in result.records()} == {r"'1\n'" if place.remote else r"'\n'"}
    assert place.read("rc").split() == (["read"] if place.remote else [])


def test_standard_input_is_empty(place: Place) -> None:
    (record,) = place("cat; tty\n", slots=1).records()
    assert record["OutputSnippet"] == r"'not a tty\n'"


def test_per_engine(place: Place) -> None:
    text = (
        "#TASKRUN PERENGINE START echo start $TASKRUN_ENGINE_RANK >> notes\n#TASKRUN PERENGINE STOP echo stop >> notes\n"
        "#TASKRUN REPEAT 4 echo task >> notes\n"
    )
    result = place(text)
    assert result.code == 0
    assert place.read("notes").splitlines() == ["start 0", "task", "task", "task", "task", "stop"]
    assert [each["Flags"] for each in result.records() if each["Flags"][3] == "P"] == ["   P", "   P"]


def test_barriers(place: Place) -> None:
    text = (
        "sleep 0.3; echo a >> notes\necho b >> notes\n#TASKRUN BARRIER\necho c >> notes\nexit 1\n#TASKRUN BARRIER CHECK\necho d >> notes\n"
    )
    result = place(text)
    assert result.code == 1
    assert place.read("notes").split() == ["b", "a", "c"]


#: The first two run until `now` is there, and note when they are told to end: one with 0, the other with 1.
WORK = (
    "trap 'echo told $TASKRUN_TASKID >> told; exit $TASKRUN_TASKID' TERM; "
    "test -e now || { sh -c 'touch started_$TASKRUN_TASKID; exec sleep SECONDS' & wait $!; }; echo $TASKRUN_TASKID >> ended\n"
) * 3


@pytest.mark.parametrize(
    ("signals", "seconds", "code", "cause", "left"),
    [
        pytest.param([signal.SIGINT], 1, 3, "ok", [2], id="drain"),
        pytest.param([signal.SIGINT, signal.SIGINT], 60, 130, "cancelled", [0, 1, 2], id="cancel"),
        pytest.param([signal.SIGTERM], 60, 3, "preempted", [0, 1, 2], id="term"),
    ],
)
def test_signals(place: Place, signals: list[int], seconds: int, code: int, cause: str, left: list[int]) -> None:
    running = place.start(WORK.replace("SECONDS", str(seconds)))
    until(lambda: all((place.folder / f"started_{k}").exists() for k in (0, 1)), 20, "the tasks to start")
    for number in signals:
        running.send(number)
        time.sleep(0.3)
    result = running.finish()
    assert result.code == code
    assert sorted((each["id"], each["cause"]) for each in result.events("attempt")) == [(0, cause), (1, cause)]
    assert not (place.folder / "started_2").exists()
    until(place.nothing_runs, what="the host to be empty")
    (place.folder / "ended").unlink(missing_ok=True)
    (place.folder / "now").touch()
    again = place.taskrun("-r", "run_status.txt", "-p", "two")
    assert again.code == 0, again.err
    assert sorted(place.read("ended").split()) == [str(number) for number in left]
    assert sorted((each["TaskID"], each["ReturnCode"]) for each in again.records("two")) == [(0, 0), (1, 0), (2, 0)]


def test_what_a_task_starts_is_ended_with_it(place: Place) -> None:
    """Its session, and what has left the session."""
    running = place.start("setsid sleep 61 & sleep 62 & touch started; wait\n", "--grace", "1", slots=1)
    until((place.folder / "started").exists, 20, "the task to start")
    running.send(signal.SIGTERM)
    assert running.finish().code == 3
    until(place.nothing_runs, 3, "the host to be empty")


def test_what_a_task_leaves_is_named(place: Place) -> None:
    result = place("setsid -f sleep 300\n", slots=1)
    found = re.search(r"^  (\d+)(.*), task 0: sleep 300$", result.err, re.MULTILINE)
    assert found is not None, result.err
    pid, where = found.groups()
    assert where == (f" on {place.node}" if place.remote else "")
    assert f"end it: {f'ssh {place.node} ' if place.remote else ''}kill {pid}\n" in result.err
    ended = place(f"kill {pid}\nsetsid -f sleep 300\n", "--leftovers", "fail", prefix="ended")
    assert sorted(each["ReturnCode"] for each in ended.records()) == [0, 76]
    until(place.nothing_runs, 3, "the host to be empty")


def test_the_driver_is_killed(place: Place) -> None:
    """The tasks end at once, wherever they are; the resume runs them again."""
    running = place.start(WORK.replace("SECONDS", "60"))
    until(lambda: all((place.folder / f"started_{k}").exists() for k in (0, 1)), 20, "the tasks to start")
    running.send(signal.SIGKILL)
    running.finish()
    until(place.nothing_runs, what="the host to be empty")
    assert sorted(place.read("told").split()[1::2]) == ["0", "1"]
    (place.folder / "now").touch()
    again = place.taskrun("-r", "run_status.txt", "-p", "two")
    assert again.code == 0, again.err
    assert sorted(place.read("ended").split()) == ["0", "1", "2"]


def starts_slots(place: Place, flags: tuple[str, ...] = ()) -> str:
    """What started the slots of a run."""
    result = place("#TASKRUN REPEAT 30 sleep 0.02; echo $TASKRUN_CYLINDER_RANK >> ranks\n", *flags, slots=3)
    assert result.code == 0
    assert len(result.records()) == 30
    assert set(place.read("ranks").split()) <= {"0", "1", "2"}
    (joined,) = (each for each in result.events("engine") if each["what"] == "joined")
    return str(joined["starter"])


def test_what_starts_slots(place: Place) -> None:
    assert starts_slots(place).startswith("parallel 2")


def test_the_built_in_starter(place: Place) -> None:
    assert starts_slots(place, ("--starter", "builtin")) == "builtin"


@pytest.mark.parametrize("place", ["paramiko", "ssh"], indirect=True)
@pytest.mark.parametrize("hidden", [["parallel"], ["parallel", "perl"]], ids=["shipped", "no perl"])
def test_a_host_without_gnu_parallel(place: Place, hidden: list[str]) -> None:
    """The driver's copy is sent along, and is gone at the end. Where there is no Perl for it, the built-in starter does."""
    assert place.hosts is not None
    for name in hidden:
        place.hosts.exec(1, "mount", "--bind", "/dev/null", f"/usr/bin/{name}")
    try:
        assert starts_slots(place).startswith("parallel 2" if hidden == ["parallel"] else "builtin")
    finally:
        for name in hidden:
            place.hosts.exec(1, "umount", f"/usr/bin/{name}")
