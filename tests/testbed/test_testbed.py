"""The testbed does what its name says: hosts and nodes that answer, fall silent, die and come back, and nothing of it stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from harness import ROOT, Taskrun, until
from pythons import chosen
from slurm_cluster import SlurmCluster
from ssh_hosts import SshHosts


def test_hosts_answer_and_share_nothing(ssh_hosts: SshHosts, tmp_path: Path) -> None:
    for k, name in enumerate(ssh_hosts.names, 1):
        assert ssh_hosts.ssh(k, "hostname").stdout == f"{name}\n"
    assert ssh_hosts.ssh(1, "echo 1 > ~/file").returncode == 0
    assert ssh_hosts.path(1, "/root/file").read_text() == "1\n"
    assert ssh_hosts.ssh(2, f"ls ~/file {tmp_path} {ROOT}").stdout == ""


def test_configuration_in_a_home(ssh_hosts: SshHosts, taskrun: Taskrun) -> None:
    home = Path(taskrun.env["HOME"])
    taskrun.env.update(ssh_hosts.install(home, "Host other\n    HostName nowhere"))
    assert {path.name: path.stat().st_mode & 0o777 for path in home.joinpath(".ssh").iterdir()} == dict.fromkeys(
        ("config", "id_ed25519", "known_hosts"), 0o600
    )
    done = subprocess.run(
        ["ssh", "host2", "hostname"], env=taskrun.env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("host2\n", "")


def test_a_cut_host_is_silent_and_lives_on(ssh_hosts: SshHosts) -> None:
    ssh_hosts.cut_host(1)
    assert "timed out" in ssh_hosts.ssh(1, "true").stderr
    assert ssh_hosts.exec(1, "hostname").stdout == "host1\n"
    assert ssh_hosts.ssh(2, "true").returncode == 0
    ssh_hosts.mend_host(1)
    assert ssh_hosts.ssh(1, "hostname").stdout == "host1\n"


def test_a_killed_host_is_silent_and_comes_back_with_its_disk(ssh_hosts: SshHosts) -> None:
    ssh_hosts.ssh(1, "touch ~/kept /tmp/dropped; setsid sleep 600 < /dev/null > /dev/null 2>&1 &")
    until(lambda: list(ssh_hosts.processes(1).values()) == ["sleep 600"])
    ssh_hosts.kill_host(1)
    assert ssh_hosts.processes(1) == {}
    assert "timed out" in ssh_hosts.ssh(1, "true").stderr
    ssh_hosts.revive_host(1)
    assert ssh_hosts.ssh(1, "ls ~ /tmp").stdout == "/root:\nkept\n\n/tmp:\n"


def test_without_sshd_a_host_refuses(ssh_hosts: SshHosts) -> None:
    ssh_hosts.kill_sshd(1)
    assert "refused" in ssh_hosts.ssh(1, "true").stderr
    ssh_hosts.revive_host(1)
    assert ssh_hosts.ssh(1, "true").returncode == 0


def test_a_host_without_python(ssh_hosts: SshHosts) -> None:
    ssh_hosts.no_python(1)
    assert "not found" in ssh_hosts.ssh(1, "python3 -V").stderr
    assert ssh_hosts.ssh(2, "python3 -V").stdout.startswith("Python 3.")
    ssh_hosts.with_python(1)
    assert ssh_hosts.ssh(1, "python3 -V").stdout.startswith("Python 3.")


@pytest.mark.parametrize("python", chosen())
def test_a_host_with_another_python(ssh_hosts: SshHosts, python: Path) -> None:
    ssh_hosts.with_python(1, python)
    told = ssh_hosts.ssh(1, "python3 -c 'import sys, socket, json, zlib; print(\"python%d.%d\" % sys.version_info[:2])'")
    assert (told.stdout, told.stderr) == (f"{python.name}\n", "")


def test_what_a_test_leaves_on_a_host_is_found(ssh_hosts: SshHosts) -> None:
    ssh_hosts.ssh(1, "touch /tmp/litter; setsid sleep 600 < /dev/null > /dev/null 2>&1 &")
    ssh_hosts.ssh(2, "touch /dev/shm/litter; setsid sleep 600 < /dev/null > /dev/null 2>&1 &")
    ssh_hosts.cut_host(2)  # who cannot be reached need not be clean
    assert ssh_hosts.reset(patience=0.5) == ["host1: process sleep 600", "host1: file /tmp/litter"]
    assert [ssh_hosts.processes(k) for k in (1, 2)] == [{}, {}]


def test_a_job_on_two_nodes(slurm_cluster: SlurmCluster, tmp_path: Path) -> None:
    done = slurm_cluster.run("sbatch", "--wait", "-N2", "-n4", "-o", "out.txt", "--wrap", "srun hostname | sort", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out.txt").read_text().split() == ["node1", "node1", "node2", "node2"]


def test_nodes_fall_silent_die_and_come_back(slurm_cluster: SlurmCluster) -> None:
    slurm_cluster.cut_node(1)
    assert slurm_cluster.exec(1, "hostname").stdout == "node1\n"
    slurm_cluster.mend_node(1)
    assert slurm_cluster.run("srun", "-w", "node1", "hostname").stdout == "node1\n"
    slurm_cluster.kill_node(2)
    slurm_cluster.revive_node(2)
    slurm_cluster.kill_slurmd(3)
    slurm_cluster.revive_node(3)
    assert sorted(slurm_cluster.run("srun", "-N3", "hostname").stdout.split()) == slurm_cluster.names


def test_what_a_test_leaves_on_the_cluster_is_found(slurm_cluster: SlurmCluster) -> None:
    job = slurm_cluster.run("sbatch", "--parsable", "-o", "/dev/null", "-J", "litter", "--wrap", "sleep 600").stdout.strip()
    until(lambda: "RUNNING" in slurm_cluster.run("squeue", "-h", "-o", "%T").stdout)
    slurm_cluster.kill_node(3)
    complaints = slurm_cluster.reset(patience=0.5)
    assert complaints[0] == f"job {job} RUNNING litter"
    assert slurm_cluster.run("srun", "-N3", "true").returncode == 0


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_the_testbed_ends_with_its_process(end: int, ssh_hosts: SshHosts) -> None:
    """However that ends. (The fixture is asked for so that this skips where it does.)"""
    script = "import bed, time; b = bed.Bed('ssh-hosts', (), '1'); print(b.folder, b.number, flush=True); time.sleep(600)"
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT / "tests", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    folder, number = process.stdout.readline().split()
    assert Path(folder, "ssh", "config").exists()
    assert f"tbssh{number}-host1" in os.listdir("/run/netns")
    process.send_signal(end)
    process.wait()
    process.stdout.close()
    until(lambda: not Path(folder).exists() and f"tbssh{number}-host1" not in os.listdir("/run/netns"), 20)
