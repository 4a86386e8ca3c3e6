"""Hosts as they are: bare, full, slow, noisy, with other shells and other Pythons. One sentence names the host; the others go on."""

from __future__ import annotations

import contextlib
import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Result, Taskrun, until
from pythons import chosen
from ssh.sharing import Sharing
from ssh_hosts import SshHosts

BOTH = pytest.mark.parametrize("reach", [(), ("--ssh", "ssh")], ids=["paramiko", "ssh"])
WORK = "#TASKRUN REPEAT 12 hostname; sleep 0.05\n"


def run(taskrun: Taskrun, hosts: str, *flags: str, workdir: str = "/srv/run", text: str = WORK) -> Result:
    return taskrun("tasks.txt", "-s", hosts, *(("--workdir", workdir) if workdir else ()), *flags, "-p", "run", files={"tasks.txt": text})


def nodes(result: Result) -> set[str]:
    return {each["Node"] for each in result.records()}


@contextlib.contextmanager
def mounted(hosts: SshHosts, k: int, *mounts: str) -> Iterator[None]:
    """Each is the words of a mount command; the last one is where."""
    done: list[str] = []
    try:
        for words in mounts:
            hosts.exec(k, "mount", *words.split())
            done.append(words.split()[-1])
        yield
    finally:
        for where in reversed(done):
            hosts.exec(k, "umount", "-l", where)


@contextlib.contextmanager
def login_shell(hosts: SshHosts, k: int, shell: str) -> Iterator[None]:
    """root's on this host: really so, in its /etc/passwd."""
    first, _, rest = Path("/etc/passwd").read_text().partition("\n")
    assert first.startswith("root:")
    hosts.path(k, "/srv/passwd").write_text(f"{first.rpartition(':')[0]}:{shell}\n{rest}")
    with mounted(hosts, k, "--bind /srv/passwd /etc/passwd"):
        yield


def test_bare_and_full(taskrun: Taskrun, hosts: SshHosts) -> None:
    """No Python on one, no room for a file on another: the third does it all."""
    hosts.no_python(1)
    places = ("/tmp", "/dev/shm", "/var/tmp", "/root", "/srv")
    with mounted(hosts, 2, *(f"-t tmpfs -o size=4k none {where}" for where in places)):
        for where in places:
            hosts.path(2, f"{where}/full").write_text("x")
        result = run(taskrun, "host[1-3]:2")
        looked = taskrun("hosts", "-s", "host[1-3]:2", "--workdir", "/srv/run")
    assert result.code == 0
    assert nodes(result) == {"host3"}
    assert "taskrun: host1: there is no python3 (3.6 or newer) on this host\n" in result.err
    assert "taskrun: host2: no folder for temporary files: [Errno 28] No space left on device" in result.err
    assert looked.code == 1
    assert "host1: there is no python3 (3.6 or newer) on this host\n" in looked.out
    assert "host2: no folder for temporary files: [Errno 28] No space left on device" in looked.out


def test_a_full_tmp_is_no_reason(taskrun: Taskrun, hosts: SshHosts) -> None:
    with mounted(hosts, 1, "-t tmpfs -o size=4k none /tmp"):
        hosts.path(1, "/tmp/full").write_text("x")
        result = run(taskrun, "host1:2")
    assert (result.code, nodes(result)) == (0, {"host1"})


def test_require_all(taskrun: Taskrun, hosts: SshHosts) -> None:
    hosts.no_python(1)
    result = run(taskrun, "host[1-2]:2", "--require-all", text="touch it\n")
    assert result.code == 2
    assert result.err == "taskrun: host1: there is no python3 (3.6 or newer) on this host (--require-all)\n"
    assert not hosts.path(2, "/srv/run/it").exists()
    assert not list(taskrun.folder.glob("run_*"))


@pytest.mark.parametrize("interpreter", chosen())
def test_pythons(taskrun: Taskrun, hosts: SshHosts, interpreter: Path) -> None:
    """The agent under real interpreters; what cannot be imported there would stop it at once."""
    hosts.with_python(1, interpreter)
    text = f"#TASKRUN PERENGINE STOP true\n{WORK}setsid sleep 60 & exit 4\nprintf '\\377'; x={'a' * 200_000}; echo ${{#x}}\n"
    result = run(taskrun, "host1:2", text=text)
    assert result.code == 0
    assert sorted(each["ReturnCode"] for each in result.records()) == [*[0] * 14, 4], [each["ErrorSnippet"] for each in result.records()]
    (joined,) = (each for each in result.events("engine") if each["what"] == "joined")
    assert joined["python"].startswith(interpreter.name.removeprefix("python"))
    hosts.exec(1, "sh", "-c", "kill $(pgrep -x sleep)")  # what a task leaves behind after a normal end stays


@pytest.mark.parametrize(
    ("shell", "startup", "text"),
    [
        ("/usr/bin/tcsh", ".cshrc", "echo hello from csh; setenv FROM_RC 1\n"),
        ("/usr/bin/fish", ".config/fish/config.fish", "echo hello from fish; set -x FROM_RC 1\n"),
        ("/bin/dash", ".profile", "exit 7\n"),
        ("/bin/bash", ".bashrc", "echo taskrun-agent; printf 'no newline'; echo noise >&2; export FROM_RC=1\n"),
    ],
    ids=["tcsh", "fish", "dash", "bash"],
)
def test_login_shells(taskrun: Taskrun, hosts: SshHosts, shell: str, startup: str, text: str) -> None:
    """They say things, and are of another kind than sh. Tasks run in bash all the same."""
    if not Path(shell).exists():
        from harness import need

        need(Path(shell).name)
    path = hosts.path(1, f"/root/{startup}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    with login_shell(hosts, 1, shell):
        result = run(taskrun, "host1:2", text="[[ $BASH_VERSION ]] && echo $FROM_RC $SHELL\n")
    assert result.code == 0, result.err
    (record,) = result.records()
    assert record["OutputSnippet"] == rf"'{'1 ' if 'FROM_RC' in text else ''}{shell}\n'"


def test_a_look_that_is_ended_leaves_nothing(taskrun: Taskrun, hosts: SshHosts) -> None:
    hosts.cut_host(1)
    running = taskrun.start("hosts", "-s", "host1:2", "--workdir", "/srv/run")
    folder = Path(taskrun.env["TMPDIR"])
    until(lambda: list(folder.glob("taskrun-hosts-*/0")), what="the look at the host")
    running.send(signal.SIGTERM)
    assert running.finish(5).code == 143
    assert not list(folder.glob("taskrun-hosts-*"))


def test_a_login_shell_that_refuses(taskrun: Taskrun, hosts: SshHosts) -> None:
    """nologin, an rc file that ends the shell: their own words are told; where there are none, what can be done."""
    hosts.path(1, "/root/.bashrc").write_text("exit 5\n")
    result = run(taskrun, "host1:2")
    assert result.code == 2
    assert result.err == "taskrun: host1: the login ended with exit code 5 before the agent came, and said nothing: see `ssh host1 true`\n"
    for reach in ("ssh", "ssh -p 22"):
        result = run(taskrun, "root@host1:2", "--ssh", reach)
        assert result.err.endswith(f"before the agent came, and said nothing: see `{reach} root@host1 true`\n")
    with login_shell(hosts, 1, "/usr/sbin/nologin"):
        hosts.path(2, "/root/.bashrc").write_text("echo 'this machine is closed' >&2; exit 3\n")
        result = run(taskrun, "host[1-3]:2")
    assert (result.code, nodes(result)) == (0, {"host3"})
    assert "taskrun: host1: This account is currently not available.\n" in result.err
    assert "taskrun: host2: this machine is closed\n" in result.err


@BOTH
def test_what_ps_shows(taskrun: Taskrun, hosts: SshHosts, reach: tuple[str, ...]) -> None:
    """Of an agent its run, and no program in any process."""
    text = "#TASKRUN REPEAT 2 touch started; until [ -e go ]; do sleep 0.05; done\n"
    words = ("-s", "host1:2", "--workdir", "/srv/run", "-p", "run", *reach)
    running = taskrun.start("tasks.txt", *words, files={"tasks.txt": text})
    until(hosts.path(1, "/srv/run/started").exists, what="a task")
    lines = list(hosts.processes(1).values())
    hosts.path(1, "/srv/run/go").touch()
    result = running.finish(30)
    run_id = json.loads((taskrun.folder / "run_run.json").read_text())["run_id"]
    assert result.code == 0
    assert sorted(line for line in lines if "agent" in line) == ["taskrun agent (waits for its end)", f"taskrun agent {run_id}"]
    assert max(map(len, lines)) < 300


@BOTH
def test_a_login_script_that_takes_the_agent(taskrun: Taskrun, hosts: SshHosts, reach: tuple[str, ...]) -> None:
    """Said after seconds, not minutes, while the other host works; `taskrun hosts` gives up a host without a connection."""
    hosts.path(1, "/root/.bashrc").write_text("cat > /dev/null\n")
    hosts.cut_host(3)
    taskrun.write({"tasks.txt": "#TASKRUN REPEAT 2 until [ -e go ]; do sleep 0.05; done\n"})
    words = ("-s", "root@host1:2,host2:2,host3:1", "--workdir", "/srv/run", *reach)
    looking = taskrun.start("hosts", *words)
    running = taskrun.start("tasks.txt", *words, "-p", "run")
    log = taskrun.folder / "run_driver.log"
    login = "`ssh root@host1 true` in a terminal must end by itself"
    until(lambda: log.exists() and f"(~/.bashrc) takes long or reads standard input; {login}" in log.read_text(), 20, what="the warning")
    looked = looking.finish(50)
    assert looked.code == 1
    assert "host1: its login has taken the agent " in looked.err
    assert login in looked.out
    assert re.search(r"^host3: there is no connection after \d\d s: see `ssh host3 true`$", looked.out, re.MULTILINE)
    hosts.path(2, "/srv/run/go").touch()
    result = running.finish(30)
    assert (result.code, nodes(result)) == (0, {"host2"})


@pytest.mark.long
def test_a_login_shell_that_reads(taskrun: Taskrun, hosts: SshHosts) -> None:
    hosts.path(1, "/root/.bashrc").write_text("read -r line\n")
    result = run(taskrun, "host[1-2]:2", text="#TASKRUN REPEAT 6 sleep 4\n")
    assert (result.code, nodes(result)) == (0, {"host2"})
    assert "does a login script here read standard input" in result.err


def test_a_short_run_names_hosts_that_have_not_answered(taskrun: Taskrun, hosts: SshHosts) -> None:
    hosts.cut_host(1)
    hosts.cut_host(2)
    result = run(taskrun, "host[1-3]:2")
    assert (result.code, nodes(result)) == (0, {"host3"})
    assert "taskrun: host1, host2 were not used: they had not answered when the run ended\n" in result.err


def test_a_program_that_prints_its_arguments(taskrun: Taskrun) -> None:
    """One sentence, at once, and nothing of ours is quoted."""
    said = "host1: --ssh 'echo hi' only prints the command that it is to run there; name a program that runs it, as ssh does\n"
    result = run(taskrun, "host1:2", "--ssh", "echo hi")
    assert (result.code, result.err) == (2, f"taskrun: {said}")
    assert taskrun("hosts", "-s", "host1:2", "--ssh", "echo hi").out.splitlines(keepends=True)[2:] == [said]
    complains = run(taskrun, "host1:2", "--ssh", "cat")
    assert re.fullmatch(r"taskrun: host1: cat: \W*exec /bin/sh -c …\n", complains.err), complains.err


def test_a_slow_profile(taskrun: Taskrun, hosts: SshHosts) -> None:
    """The first task does not wait for it."""
    hosts.path(1, "/root/.bashrc").write_text("sleep 3\n")
    result = run(taskrun, "host[1-2]:2", text="#TASKRUN REPEAT 16 sleep 0.5\n")
    assert result.code == 0
    joined = {each["engine"]: each["t"] for each in result.events("engine") if each["what"] == "joined"}
    assert min(each["Start"] for each in result.records()) < joined["host1_0"] - 1
    assert nodes(result) == {"host1", "host2"}


@pytest.mark.parametrize(("given", "found"), [("night/a b", "/root/night/a b"), ("~/x", "/root/x"), ("$HOME/x/${USER}", "/root/x/root")])
def test_workdir(taskrun: Taskrun, hosts: SshHosts, given: str, found: str) -> None:
    result = run(taskrun, "host1:1", workdir=given, text="pwd; touch it\n")
    assert [each["OutputSnippet"] for each in result.records()] == [rf"'{found}\n'"]
    assert hosts.path(1, f"{found}/it").exists()


def test_workdirs_that_cannot_be(taskrun: Taskrun, hosts: SshHosts) -> None:
    hosts.path(1, "/srv/file").write_text("")
    (hosts.path(2, "/srv/file")).mkdir()
    result = run(taskrun, "host[1-2]:2", workdir="/srv/file")
    assert (result.code, nodes(result)) == (0, {"host2"})
    assert "taskrun: host1: --workdir /srv/file: File exists\n" in result.err
    refused = taskrun("tasks.txt", "-s", "host1:2", "-p", "two", "--workdir", "/usr/x")
    assert (refused.code, refused.err) == (2, "taskrun: host1: --workdir /usr/x: Read-only file system\n")
    refused = taskrun("tasks.txt", "-s", "host1:2", "-p", "two", "--workdir", "/srv/$NO_SUCH/x")
    assert (refused.code, refused.err) == (2, "taskrun: host1: --workdir /srv/$NO_SUCH/x: NO_SUCH is not set on this host\n")
    looked = taskrun("hosts", "-s", "host1:2", "--workdir", "~nobodyhere/x")
    assert "host1: --workdir ~nobodyhere/x: there is no user nobodyhere on this host\n" in looked.out


def test_the_folder_is_not_there(taskrun: Taskrun, hosts: SshHosts) -> None:
    result = run(taskrun, "host1:2", workdir="")
    assert result.code == 2
    assert result.err == (
        f"taskrun: host1: this host does not share the working directory {taskrun.folder}: give one there with --workdir DIR\n"
    )


def test_the_folder_is_shared(taskrun: Taskrun, hosts: SshHosts) -> None:
    """Found out, not believed: on host2 a folder of the same name is another one."""
    sharing = Sharing(hosts, taskrun.folder)
    sharing.share(1)
    other = hosts.path(2, str(taskrun.folder))
    other.mkdir(parents=True)
    try:
        result = run(taskrun, "host[1-2]:2", workdir="", text="#TASKRUN REPEAT 8 sleep 1\n")
        looked = taskrun("hosts", "-s", "host[1-2]:2", "--json")
    finally:
        sharing.end(1, 2)
    assert (result.code, nodes(result)) == (0, {"host1"})
    assert "host2: this host does not share the working directory" in result.err
    assert [each["shared"] for each in json.loads(looked.out)] == [True, False]
    assert [each["usable"] for each in json.loads(looked.out)] == [True, False]


def test_the_table(taskrun: Taskrun, hosts: SshHosts) -> None:
    """What `taskrun hosts` shows when all is well, and that it leaves nothing, not even the working directory."""
    result = taskrun("hosts", "-s", "localhost:1,host1:2", "-s", "root@host2:900", "--workdir", "/srv/run")
    assert result.code == 0, result.out
    lines = result.out.splitlines()
    assert lines[0].startswith("host        usable  slots  python")
    assert [line.split()[1:3] for line in lines[1:4]] == [["yes", "1"], ["yes", "2"], ["yes", "900"]]
    assert [line.split()[0] for line in lines[2:4]] == ["host1", "root@host2"]
    assert lines[4].startswith("root@host2: 900 slots on ")
    assert not hosts.path(1, "/srv/run").exists()
    assert not list(taskrun.folder.iterdir())
    asked = json.loads(taskrun("hosts", "-s", "host1:2", "--workdir", "/srv/run", "--json", "--ssh", "ssh").out)
    assert [(each["host"], each["usable"], each["shared"], each["slots"]) for each in asked] == [("host1", True, False, 2)]
    assert asked[0]["latency"] < 5
    assert abs(asked[0]["clock_ahead"]) < 5


@pytest.mark.parametrize(
    ("hosts_given", "said"),
    [
        ("host1", "-s host1: the number of cores is missing; write host1:4 for four"),
        ("host1:x", "-s host1:x: `x` is not a number of cores; write host1:4 for four"),
        ("host[1-:2", "is no name of a host"),
        ("host[3-1]:2", "-s host[3-1]:2: `[3-1]` is no range of numbers; write it as [01-16] or [1-4,7]"),
        ("@host1:2", "-s @host1:2: `@host1` is no name of a host; write HOST:2 or USER@HOST:2"),
        ("-oProxyCommand=x:2", "is no name of a host"),
        (
            "ssh://ann@host1:22",
            "a host is followed by its number of cores, and a port is ssh's; write -s ann@host1:4 for four\n",
        ),
        (
            "ssh://ann@[::1]:2222",
            "-s ann@[::1]:4 for four, with `Host ::1` and `Port 2222` in ~/.ssh/config or with --ssh 'ssh -p 2222'",
        ),
        ("http://host1:2", "an engine's host is no URL; write HOST:CORES or USER@HOST:CORES"),
        (",", "-s names no host; write -s localhost:4 for four slots on this machine"),
    ],
)
@pytest.mark.parametrize("command", [("hosts",), ("tasks.txt",)], ids=["hosts", "run"])
def test_misspelt(taskrun: Taskrun, hosts_given: str, said: str, command: tuple[str, ...]) -> None:
    result = taskrun(*command, f"-s{hosts_given}", files={"tasks.txt": "true\n"})
    assert result.code == 2
    assert said in result.err
    assert result.err.count("\n") == 1


@pytest.mark.parametrize(("given", "said"), [("no-such-ssh -p 3", "there is no program no-such-ssh"), ("'", "No closing quotation")])
def test_ssh_that_is_no_program(taskrun: Taskrun, given: str, said: str) -> None:
    """Before anything."""
    for command in (("hosts",), ("tasks.txt", "-p", "run")):
        result = taskrun(*command, "-s", "host1:2", f"--ssh={given}", files={"tasks.txt": "true\n"})
        assert result.code == 2, result.err
        assert said in result.err
    assert [path.name for path in taskrun.folder.iterdir()] == ["tasks.txt"]
