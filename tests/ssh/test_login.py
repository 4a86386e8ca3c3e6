"""Reaching hosts: ~/.ssh/config, host keys, keys and agents, jump hosts. Nothing is ever asked of a terminal."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Result, Taskrun, need, until
from ssh.place import configure
from ssh_hosts import SshHosts

BOTH = pytest.mark.parametrize("reach", [(), ("--ssh", "ssh")], ids=["paramiko", "ssh"])


def run(taskrun: Taskrun, hosts: str, *flags: str, line: str = "hostname") -> Result:
    text = f"#TASKRUN REPEAT 4 {line}\n"
    return taskrun("tasks.txt", "-s", hosts, "--workdir", "/srv/run", "-p", "run", *flags, files={"tasks.txt": text})


def nodes(result: Result) -> set[str]:
    return {each["Node"] for each in result.records()} if result.code == 0 else set()


def ssh_folder(taskrun: Taskrun) -> Path:
    return Path(taskrun.env["HOME"], ".ssh")


def rewrite(taskrun: Taskrun, *changes: tuple[str, str]) -> None:
    """In ~/.ssh/config."""
    config = ssh_folder(taskrun) / "config"
    text = config.read_text()
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    config.write_text(text)


@BOTH
def test_configuration(taskrun: Taskrun, hosts: SshHosts, reach: tuple[str, ...]) -> None:
    """An alias with all that ~/.ssh/config can say of it, part of it in a file of its own, known by its address alone."""
    folder = ssh_folder(taskrun)
    (folder / "id_ed25519").rename(folder / "work key")
    (folder / "more").write_text(
        f'Host gpu*\n    HostName {hosts.addresses[0]}\n    User root\n    Port 22\n    IdentityFile "{folder}/work key"\n'
        f"    IdentitiesOnly yes\n"
        f"    UserKnownHostsFile {folder}/known\n    StrictHostKeyChecking yes\n    ServerAliveInterval 20\n"
    )
    (folder / "known").write_text((folder / "known_hosts").read_text())
    (folder / "config").write_text(f"Include {folder}/more\n")
    result = run(taskrun, "gpu01:2,me@nowhere:1", *reach)
    assert nodes(result) == {"gpu01"}, result.err
    assert {each["OutputSnippet"] for each in result.records()} == {r"'host1\n'"}
    assert "gpu01" not in result.err
    assert "nowhere: " in result.err


@BOTH
@pytest.mark.parametrize(
    "way", ["ProxyJump host1", "ProxyJump root@host1:22,host3", "ProxyCommand ssh -W %h:%p host1"], ids=["jump", "two", "command"]
)
def test_behind_a_jump_host(taskrun: Taskrun, hosts: SshHosts, reach: tuple[str, ...], way: str) -> None:
    configure(taskrun, hosts, f"Host host2\n    {way}\n")
    # OpenSSH starts its own ssh for a jump, which does not know the test's configuration
    if reach and "Jump" in way:
        configure(taskrun, hosts, "Host host2\n    ProxyCommand ssh -o BatchMode=yes -W %h:%p host1\n")
    result = run(taskrun, "host2:2", *reach)
    assert nodes(result) == {"host2"}, result.err
    assert not result.err.count("host2")


def test_a_jump_host_that_is_not_there(taskrun: Taskrun, hosts: SshHosts) -> None:
    configure(taskrun, hosts, "Host host2\n    ProxyJump host3\n    ConnectTimeout 2\nHost host3\n    ConnectTimeout 2\n")
    hosts.kill_sshd(3)
    result = run(taskrun, "host1:1,host2:2")
    assert nodes(result) == {"host1"}
    assert f"host2: its jump host host3: {hosts.addresses[2]}: Connection refused; it is tried again\n" in result.err


def test_ways_that_lead_nowhere(taskrun: Taskrun, hosts: SshHosts) -> None:
    """Jump hosts in a circle, a ProxyCommand that fails, a key that is not there: each is said. Tokens and variables name one that is."""
    there = f"HostName {hosts.addresses[0]}\n    User root\n"
    more = "Host host1\n    ProxyJump other\nHost other\n    ProxyJump host1\nHost host2\n    ProxyCommand sleep 0.2\n"
    more += f"Host keyless\n    {there}    IdentityFile ~/.ssh/nosuch\n    UserKnownHostsFile {ssh_folder(taskrun)}/known_hosts\n"
    configure(taskrun, hosts, f"{more}Host host3\n    IdentityFile %d/.ssh/id_%n_${{WHO}}\n")
    (ssh_folder(taskrun) / "id_ed25519").rename(ssh_folder(taskrun) / "id_host3_me")
    taskrun.env["WHO"] = "me"
    result = run(taskrun, "host[1-3]:2,keyless:1", line="hostname; sleep 2")  # long enough for each to be said
    assert nodes(result) == {"host3"}, result.err
    assert "host1: ProxyJump other: more than 8 jump hosts in a row; does one lead back to itself?\n" in result.err
    assert "host2: its ProxyCommand has ended without a connection: `ssh host2 true` says why" in result.err
    key = ssh_folder(taskrun) / "nosuch"
    assert f"keyless: the login of root was refused (0 keys tried); its IdentityFile {key} is not there\n" in result.err


def test_settings_that_are_not_honoured_are_named(taskrun: Taskrun, hosts: SshHosts) -> None:
    configure(taskrun, hosts, "Host host1\n    RemoteCommand hostname\n    LocalForward 8080 localhost:80\n")
    result = run(taskrun, "host1:2,host2:2")
    assert result.code == 0
    assert "host1: settings of ssh that are not honoured: localforward, remotecommand (--ssh ssh honours them all)\n" in result.err


def test_a_configuration_that_is_wrong(taskrun: Taskrun, hosts: SshHosts) -> None:
    configure(taskrun, hosts, "Hots host1\n")
    result = run(taskrun, "host1:2")
    assert result.code == 2
    assert "host1: ssh refuses its configuration: " in result.err
    assert "line 1" in result.err


@BOTH
def test_host_keys(taskrun: Taskrun, hosts: SshHosts, reach: tuple[str, ...]) -> None:
    """host1's is not known, host2's is another one: refused, each with its remedy. host3 does it all."""
    known = ssh_folder(taskrun) / "known_hosts"
    lines = known.read_text().splitlines()
    mine, other = (line.partition(" ") for line in lines[1:3])
    known.write_text("\n".join([f"{mine[0]} {other[2]}", lines[2]]) + "\n")
    result = run(taskrun, "host[1-3]:2", *reach)
    assert nodes(result) == {"host3"}, result.err
    if reach:
        assert "taskrun: host1, host2: Host key verification failed.\n" in result.err
        return
    assert "taskrun: host1: its host key is not known (ssh-ed25519 SHA256:" in result.err
    assert "): ssh host1 once, and compare it\n" in result.err
    assert "taskrun: host2: its host key has changed: SHA256:" in result.err
    remedy = f"ssh-keygen -f {known} -R {hosts.addresses[1]}, then ssh host2 once"
    assert f"is not the one of {known}:1; if that is meant: {remedy}\n" in result.err


@BOTH
def test_new_host_keys_are_taken(taskrun: Taskrun, hosts: SshHosts, reach: tuple[str, ...]) -> None:
    """With accept-new once and for all; with `no` each time, and it is said; changed keys are refused with accept-new, too."""
    rewrite(taskrun, ("StrictHostKeyChecking yes", "StrictHostKeyChecking accept-new"))
    known = ssh_folder(taskrun) / "known_hosts"
    before = known.read_text().splitlines()
    known.write_text("")
    result = run(taskrun, "host1:2", *reach)
    assert nodes(result) == {"host1"}, result.err
    (line,) = known.read_text().splitlines()
    assert line.split()[1:] == before[0].split()[1:]
    assert taskrun("-r", "run_status.txt", "-p", "two").code == 0
    known.write_text(f"{hosts.addresses[0]} {before[1].partition(' ')[2]}\n")
    assert taskrun("tasks.txt", "-s", "host1:2", "--workdir", "/srv/run", "-p", "three", *reach).code == 2


def test_without_checking(taskrun: Taskrun, hosts: SshHosts) -> None:
    rewrite(taskrun, ("StrictHostKeyChecking yes", "StrictHostKeyChecking no"))
    (ssh_folder(taskrun) / "known_hosts").write_text("")
    result = run(taskrun, "host1:2")
    assert nodes(result) == {"host1"}
    assert "is not known; StrictHostKeyChecking no takes it\n" in result.err


def test_hashed_names_and_revoked_keys(taskrun: Taskrun, hosts: SshHosts) -> None:
    known = ssh_folder(taskrun) / "known_hosts"
    lines = known.read_text().splitlines()
    known.write_text("\n".join([lines[0], f"@revoked {lines[1]}"]) + "\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", known], check=True, capture_output=True)
    (known.parent / "known_hosts.old").unlink()
    assert "host1" not in known.read_text()
    result = run(taskrun, "host[1-2]:2")
    assert nodes(result) == {"host1"}, result.err
    assert "host2: its host key SHA256:" in result.err
    assert "is marked @revoked\n" in result.err


def encrypt(taskrun: Taskrun) -> Path:
    key = ssh_folder(taskrun) / "id_ed25519"
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "secret words", "-f", key], check=True, capture_output=True)
    return key


@BOTH
def test_an_encrypted_key_without_an_agent(taskrun: Taskrun, hosts: SshHosts, reach: tuple[str, ...]) -> None:
    """Refused, and the terminal that is there is not asked."""
    key = encrypt(taskrun)
    taskrun.write({"tasks.txt": "true\n"})
    words = [*taskrun.command, "tasks.txt", "-s", "host1:2", "--workdir", "/srv/run", "-p", "run", *reach]
    done = subprocess.run(
        [need("script"), "-qec", shlex.join(words), "/dev/null"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        env=taskrun.env,
        cwd=taskrun.folder,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    if not reach:
        assert done.stdout == f"taskrun: host1: the login of root was refused (0 keys tried); {key} needs its passphrase: ssh-add {key}\n"
    else:
        assert "Permission denied (publickey)" in done.stdout
        assert "assphrase" not in done.stdout


@pytest.fixture
def key_agent(taskrun: Taskrun, hosts: SshHosts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A real ssh-agent with the key, which is nowhere else."""
    need("ssh-agent")
    key = ssh_folder(taskrun) / "id_ed25519"
    socket = Path(os.environ["TMPDIR"], "agent")
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL)
    until(socket.exists, what="the ssh-agent")
    taskrun.env["SSH_AUTH_SOCK"] = str(socket)
    subprocess.run(["ssh-add", "-q", key], env=taskrun.env, check=True, capture_output=True)
    key.unlink()
    yield
    agent.terminate()
    agent.wait()
    socket.unlink(missing_ok=True)


@BOTH
def test_a_key_in_an_agent(taskrun: Taskrun, hosts: SshHosts, key_agent: None, reach: tuple[str, ...]) -> None:
    rewrite(taskrun, ("IdentitiesOnly yes", "IdentitiesOnly no"))
    assert nodes(run(taskrun, "host1:2", *reach)) == {"host1"}


def test_identities_only(taskrun: Taskrun, hosts: SshHosts, key_agent: None) -> None:
    """The agent's keys that no file names are not shown; those that one names by its public half are."""
    refused = run(taskrun, "host1:2")
    assert refused.code == 2
    missing = f"its IdentityFile {ssh_folder(taskrun) / 'id_ed25519'} is not there"
    assert f"host1: the login of root was refused (0 keys tried); {missing}" in refused.err
    public = subprocess.run(["ssh-add", "-L"], env=taskrun.env, check=True, capture_output=True).stdout
    (ssh_folder(taskrun) / "id_ed25519.pub").write_bytes(public)
    assert nodes(run(taskrun, "host1:2")) == {"host1"}


@BOTH
def test_nobody_listens(taskrun: Taskrun, hosts: SshHosts, reach: tuple[str, ...]) -> None:
    """It is tried again while there is something to do, and said once."""
    hosts.kill_sshd(1)
    result = run(taskrun, "host[1-2]:1", *reach)
    assert nodes(result) == {"host2"}
    assert result.err.count("host1") == 1
    assert "onnection refused; it is tried again\n" in result.err
