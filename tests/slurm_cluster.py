"""A real SLURM cluster for tests: node1, node2, node3 with 2 CPUs each, all on the machine's file system.

    def test_two_nodes(taskrun, slurm_cluster):
        taskrun.env.update(slurm_cluster.env)
        slurm_cluster.run("sbatch", "--wait", "-N2", "--wrap", "hostname")

The cluster stays up from test to test. A test may break nodes as it likes; afterwards they are whole again. A job, a process or a
file in /dev/shm that is left there fails the test.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from bed import PATIENCE, Bed, Member

_PROGRAMS = ("ip", "munged", "nsenter", "sbatch", "slurmctld", "slurmd")
_ACCOUNTING_PROGRAMS = ("mariadbd", "slurmdbd")

#: slurmctld saves what has changed 5 s later at most (SAVE_MAX_WAIT of its source). A job it has not saved is started twice.
SAVED_SECONDS = 7.0


class SlurmCluster:
    """Nodes that are called by their number, from 1. `cpus` may be a list, "4,2,1".

    accounting: a database too, as sacct needs it, and a job that shrinks more than once
    names: what SLURM calls the nodes
    env: PATH with SLURM's commands, SLURM_CONF; the nodes are known to nobody but SLURM
    local: a folder of the same path on each node with contents of its own
    """

    def __init__(self, nodes: int = 3, cpus: str = "2", accounting: bool = False) -> None:
        programs = _PROGRAMS + (_ACCOUNTING_PROGRAMS if accounting else ())
        options = ["--accounting"] if accounting else []
        self._bed = Bed("slurm-cluster", programs, *options, str(nodes), cpus)
        folder = self._bed.folder / "slurm"
        self._nodes = folder / "nodes"
        self._numbers = range(1, nodes + 1)
        self._silent: set[int] = set()  # cut or without power
        self._leaderless: set[int] = set()  # without slurmd
        self.names = [f"node{k}" for k in self._numbers]
        self.machine = f"10.87.{61 + 2 * self._bed.number}.1"
        self.local = folder / "local"
        self.env = {"PATH": os.environ["PATH"], "SLURM_CONF": str(folder / "slurm.conf")}

    def run(
        self, *argv: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None, timeout: float = 50.0
    ) -> subprocess.CompletedProcess[str]:
        """Runs one of SLURM's commands on this machine, with this process's environment and `env`."""
        return subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=cwd,
            env={**os.environ, **self.env, **(env or {})},
            timeout=timeout,
            check=False,
        )

    def exec(self, k: int, *argv: str | Path, check: bool = True, timeout: float = 20.0) -> subprocess.CompletedProcess[str]:
        """Runs a program on a node outside of any job: also where the network is cut."""
        return self._bed.call("exec", str(k), *argv, check=check, timeout=timeout)

    def path(self, k: int, name: str | Path) -> Path:
        """A file of the node as a path of this machine, to be read or written; below `local` it is another one on each."""
        return self._member(k).path(str(name))

    def processes(self, k: int) -> dict[int, str]:
        """pid (this machine's) → command line of all that runs there, job steps too, but not the node's own daemons."""
        return self._member(k).processes()

    def kill_node(self, k: int) -> None:
        """Power loss: it falls silent, and all its processes end at once."""
        self._silent.add(k)
        self._bed.call("kill-node", str(k))

    def cut_node(self, k: int) -> None:
        """The network is cut: no packet passes, and nobody is told. Processes go on."""
        self._silent.add(k)
        self._bed.call("cut-node", str(k))

    def mend_node(self, k: int) -> None:
        """Undoes a cut."""
        self._bed.call("mend-node", str(k))
        self._silent.discard(k)

    def kill_slurmd(self, k: int) -> None:
        """The node's slurmd dies; the steps on it go on."""
        self._leaderless.add(k)
        self._bed.call("kill-slurmd", str(k))

    @contextlib.contextmanager
    def without_controller(self) -> Iterator[None]:
        """slurmctld is stopped meanwhile: it takes no connection and answers nothing."""
        pid = int(Path(f"/run/testbed-slurm{self._bed.number}/slurmctld.pid").read_text())
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def restart_controller(self) -> None:
        """slurmctld dies, and another one takes over what it had saved: all that has happened until now."""
        saved, now = self._nodes.parent / "state" / "job_state", time.time()
        end = time.monotonic() + SAVED_SECONDS
        while not (saved.exists() and saved.stat().st_mtime > now) and time.monotonic() < end:
            time.sleep(0.1)
        self._bed.call("restart-slurmctld")

    def revive_node(self, k: int) -> None:
        """Undoes a power loss, a cut, or a killed slurmd, and waits until SLURM uses the node again."""
        self._bed.call("revive-node", str(k))
        self._silent.discard(k)
        self._leaderless.discard(k)

    def reset(self, patience: float = PATIENCE) -> list[str]:
        """Makes the cluster whole and empty. Returns what was found there, but for nodes that cannot be reached."""
        complaints = [f"job {job}" for job in self._end_jobs(patience)]
        for k in sorted(self._silent):
            self._bed.call("kill-node", str(k))
        for k in sorted(self._silent | self._leaderless | self._unusable()):
            self.run("scontrol", "update", f"NodeName=node{k}", "State=RESUME")  # said of a node that is not down: refused, no matter
            self.revive_node(k)
        for k in self._numbers:
            member = self._member(k)
            complaints += [f"node{k}: process {line}" for line in member.end_processes(patience).values()]
            complaints += [f"node{k}: file /dev/shm/{name}" for name in member.empty("/dev/shm")]
            member.empty(str(self.local))
        return complaints

    def close(self) -> None:
        self._bed.close()

    def _member(self, k: int) -> Member:
        return Member(self._nodes / f"node{k}", _is_node_own)

    def _jobs(self) -> list[str]:
        return self.run("squeue", "-h", "-o", "%A %T %j").stdout.splitlines()

    def _unusable(self) -> set[int]:
        lines = self.run("sinfo", "-h", "-N", "-o", "%N %T", "-p", "debug").stdout.split("\n")
        usable = ("idle", "mixed", "allocated", "completing")
        states = dict(line.split() for line in lines if line)
        return {k for k in self._numbers if states.get(f"node{k}") not in usable}

    def _end_jobs(self, patience: float) -> list[str]:
        """Waits a little for jobs to end; those that do not are cancelled and returned."""
        end = time.monotonic() + patience
        while (jobs := self._jobs()) and time.monotonic() < end:
            if all(job.split()[1] == "COMPLETING" for job in jobs) and self._silent:
                return []  # on a node that cannot say so
            time.sleep(0.2)
        for job in jobs:
            self.run("scancel", job.split()[0])
        return jobs


def _is_node_own(line: str) -> bool:
    return line.startswith(("tb-idle ", "munged ", "slurmd "))


@pytest.fixture(scope="session")
def _slurm_cluster_of_session() -> Iterator[SlurmCluster]:
    cluster = SlurmCluster()
    yield cluster
    cluster.close()


@pytest.fixture
def slurm_cluster(_slurm_cluster_of_session: SlurmCluster) -> Iterator[SlurmCluster]:
    """Three nodes of 2 CPUs, all of them usable, no job in the queue."""
    yield _slurm_cluster_of_session
    if complaints := _slurm_cluster_of_session.reset():
        pytest.fail("the test left behind on the cluster\n  " + "\n  ".join(complaints), pytrace=False)
