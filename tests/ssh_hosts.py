"""Real OpenSSH hosts for tests: host1, host2, host3, each with a network, disk and processes of its own, sharing nothing.

    def test_two_hosts(taskrun, ssh_hosts):
        taskrun.env.update(ssh_hosts.install(taskrun.env["HOME"]))
        taskrun("tasks.txt", "-s", "host1:2,host2:2", "-p", "run", "--workdir", "/srv/run", files={…})

The hosts stay up from test to test. A test may break them as it likes; afterwards they are whole and empty again. A process left
on a host that can be reached, or a file in its folders for temporary files, fails the test.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from bed import PATIENCE, Bed, Member
from harness import path_without_slurm

_TEMPORARY = ("/tmp", "/var/tmp", "/dev/shm")
_DISK = ("/root", "/home", "/srv", "/opt", "/mnt")


class SshHosts:
    """`count` hosts; all are called by their number, from 1.

    names: how a client calls them; they are known to nobody but the configuration (`env` or `install`)
    addresses: their IPv4 addresses; the machine is .1 in the same network
    env: PATH with ssh, scp and sftp that know the hosts, TESTBED_SSH_CONFIG, TESTBED_SSH_KEY, TESTBED_SSH_KNOWN_HOSTS
    """

    def __init__(self, count: int = 3, *options: str) -> None:
        self._bed = Bed("ssh-hosts", ("ip", "nsenter", "ssh", "sshd"), *options, str(count))
        self._folder = self._bed.folder / "ssh"
        self._numbers = range(1, count + 1)
        self._silent: set[int] = set()  # cut or without power
        self._mute: set[int] = set()  # nobody listens
        self._pythonless: set[int] = set()  # or with another one than the machine's
        network = f"10.87.{62 + 2 * self._bed.number}"
        self.names = [f"host{k}" for k in self._numbers]
        self.addresses = [f"{network}.{10 + k}" for k in self._numbers]
        self.machine = f"{network}.1"
        self.config = self._folder / "config"
        self.key = self._folder / "id_ed25519"
        self.known_hosts = self._folder / "known_hosts"
        self.env = {
            "PATH": f"{self._folder / 'bin'}:{path_without_slurm()}",
            "TESTBED_SSH_CONFIG": str(self.config),
            "TESTBED_SSH_KEY": str(self.key),
            "TESTBED_SSH_KNOWN_HOSTS": str(self.known_hosts),
        }

    def install(self, home: str | Path, more: str = "") -> dict[str, str]:
        """Writes HOME/.ssh: configuration (`more` comes first), key, known hosts, all 0600. Returns a PATH for the environment.

        OpenSSH's programs look for .ssh in the home of the account, never in $HOME; those on this PATH look in $HOME.
        """
        folder = Path(home, ".ssh")
        folder.mkdir(mode=0o700, exist_ok=True)
        shutil.copyfile(self.key, folder / "id_ed25519")
        shutil.copyfile(self.known_hosts, folder / "known_hosts")
        text = self.config.read_text().replace(str(self._folder), str(folder))
        (folder / "config").write_text(f"{more}\n{text}")
        for name in ("id_ed25519", "known_hosts", "config"):
            (folder / name).chmod(0o600)
        programs = self._folder / "home"
        programs.mkdir(exist_ok=True)
        for name in ("ssh", "scp", "sftp"):
            program = programs / name
            program.write_text(f'#!/bin/sh\nexec {shutil.which(name)} -F "$HOME/.ssh/config" "$@"\n')
            program.chmod(0o755)
        return {"PATH": f"{programs}:{path_without_slurm()}"}

    def ssh(self, k: int, command: str, timeout: float = 20.0) -> subprocess.CompletedProcess[str]:
        """Runs a shell command there by the real ssh, with a time-out of 3 s for the connection."""
        return subprocess.run(
            ["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=3", f"host{k}", command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env={**os.environ, **self.env},
            timeout=timeout,
            check=False,
        )

    def exec(self, k: int, *argv: str, check: bool = True, timeout: float = 20.0) -> subprocess.CompletedProcess[str]:
        """Runs a program there without ssh: also where the network is cut."""
        return self._bed.call("exec", str(k), *argv, check=check, timeout=timeout)

    def path(self, k: int, name: str) -> Path:
        """A file of the host as a path of this machine, to be read or written. While the host runs."""
        return self._member(k).path(name)

    def processes(self, k: int) -> dict[int, str]:
        """pid (this machine's) → command line of all that runs there, connections of sshd too, but not the host's own daemons."""
        return self._member(k).processes()

    def kill_host(self, k: int) -> None:
        """Power loss: it falls silent, and all its processes end at once."""
        self._silent.add(k)
        self._bed.call("kill-host", str(k))

    def cut_host(self, k: int) -> None:
        """The network is cut: no packet passes, and nobody is told. Processes go on."""
        self._silent.add(k)
        self._bed.call("cut-host", str(k))

    def mend_host(self, k: int) -> None:
        """Undoes a cut."""
        self._bed.call("mend-host", str(k))
        self._silent.discard(k)

    def revive_host(self, k: int) -> None:
        """Undoes a power loss (the disk is kept, /tmp emptied), a cut, or a killed sshd."""
        self._bed.call("revive-host", str(k))
        self._silent.discard(k)
        self._mute.discard(k)

    def kill_sshd(self, k: int) -> None:
        """Nobody listens any more (connection refused); the connections there are go on."""
        self._mute.add(k)
        self._bed.call("kill-sshd", str(k))

    def no_python(self, k: int) -> None:
        """There is no python on PATH any more."""
        self._pythonless.add(k)
        self._bed.call("no-python", str(k))

    def with_python(self, k: int, interpreter: Path | None = None) -> None:
        """The machine's python again; or this interpreter as the only one, called python3 (the host boots for that)."""
        prefix = [interpreter.parent.parent] if interpreter else []
        if prefix:
            self._pythonless.add(k)
        self._bed.call("with-python", str(k), *prefix)
        if not prefix:
            self._pythonless.discard(k)

    def forgive(self, k: int) -> None:
        """Ends what runs there and empties its folders for temporary files: what is there now is the test's own doing."""
        self._tidy(k, 0)

    def reset(self, patience: float = PATIENCE) -> list[str]:
        """Makes all hosts whole and empty. Returns what was found on those that could be reached."""
        complaints = []
        for k in self._numbers:
            if k in self._silent:
                self._bed.call("kill-host", str(k))
                self.revive_host(k)
                self._tidy(k, 0)
            else:
                complaints += [f"host{k}: {told}" for told in self._tidy(k, patience)]
            if k in self._mute:
                self.revive_host(k)
            if k in self._pythonless:
                self.with_python(k)
            self._empty_disk(k)
        return complaints

    def close(self) -> None:
        self._bed.close()

    def _member(self, k: int) -> Member:
        return Member(self._folder / "hosts" / f"host{k}", _is_host_own)

    def _tidy(self, k: int, patience: float) -> list[str]:
        member = self._member(k)
        left = member.end_processes(patience)
        return [f"process {line}" for line in left.values()] + [f"file {top}/{name}" for top in _TEMPORARY for name in member.empty(top)]

    def _empty_disk(self, k: int) -> None:
        member = self._member(k)
        for top in _DISK:
            member.empty(top)
        shutil.copytree("/etc/skel", member.path("/root"), dirs_exist_ok=True)


def _is_host_own(line: str) -> bool:
    return line.startswith(("tb-idle ", "sshd: /usr/sbin/sshd -D "))


@pytest.fixture(scope="session")
def _ssh_hosts_of_session() -> Iterator[SshHosts]:
    hosts = SshHosts()
    yield hosts
    hosts.close()


@pytest.fixture
def ssh_hosts(_ssh_hosts_of_session: SshHosts) -> Iterator[SshHosts]:
    """Three hosts, whole and empty."""
    yield _ssh_hosts_of_session
    if complaints := _ssh_hosts_of_session.reset():
        pytest.fail("the test left behind on the hosts\n  " + "\n  ".join(complaints), pytrace=False)
