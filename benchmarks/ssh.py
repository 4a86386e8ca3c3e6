"""Tasks over SSH, beside the same on this machine, interleaved in one run: `ssh.py [LINES [ROUNDS]]`.

Real sshd hosts in namespaces of this machine (tests/testbed; needs root), so that all share its cores: what SSH adds is what is measured.
Prints tasks a second, the driver's CPU time a task, and how long a hundred engines take to start.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

ENGINES = 100
TASKS_OF_ENGINES = 20_000
#: Starts an agent here as ssh would there: HOST COMMAND. With sshd's PATH: somebody's own `python3` may be a script, which costs more.
STAND_IN = '#!/bin/sh\nPATH=/usr/local/bin:/usr/bin:/bin exec /bin/sh -c "$2"\n'
COMMAND = [sys.executable, "-m", "taskrun", "tasks.txt", "-q"]


class Way(NamedTuple):
    name: str
    arguments: tuple[str, ...]
    base: str  # what it is compared to


WAYS = (
    Way("localhost:2", ("-s", "localhost:2"), "localhost:2"),
    Way("host1:2, paramiko", ("-s", "host1:2"), "localhost:2"),
    Way("host1:2, --ssh ssh", ("-s", "host1:2", "--ssh", "ssh"), "localhost:2"),
    Way("host1:6", ("-s", "host1:6"), "host1:6"),
    Way("host1:2 host2:2 host3:2", ("-s", "host[1-3]:2"), "host1:6"),
)


def run(arguments: tuple[str, ...], folder: Path, env: dict[str, str], number: int, tasks: int) -> tuple[float, float]:
    """(seconds of one whole process, seconds of CPU of the driver alone)."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [*COMMAND, *arguments, "--workdir", "/srv/run", "-p", f"run{number}"], cwd=folder, env=env, stdin=subprocess.DEVNULL
    )
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    seconds = time.perf_counter() - began
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    if process.wait() or (folder / f"run{number}_status.txt").read_bytes().count(b"\n") != tasks:
        raise SystemExit(f"{' '.join(arguments)}: records are missing")
    return seconds, cpu


def speed(folder: Path, env: dict[str, str], lines: int, rounds: int) -> None:
    (folder / "tasks.txt").write_text("true\n" * lines)
    found: dict[str, list[tuple[float, float]]] = {way.name: [] for way in WAYS}
    number = 0
    for _ in range(rounds):
        for way in WAYS:
            number += 1
            found[way.name].append(run(way.arguments, folder, env, number, lines))
    for way in WAYS:
        seconds = statistics.median(each for each, _ in found[way.name])
        cpu = statistics.median(each for _, each in found[way.name])
        ratio = statistics.median(base / value for (base, _), (value, _) in zip(found[way.base], found[way.name], strict=True))
        print(
            f"  {way.name:25} {seconds:6.2f} s  {lines / seconds:5.0f} tasks/s  {ratio:5.3f} x {way.base:12} "
            f"driver {cpu / lines * 1e6:4.0f} µs a task"
        )


def scale(folder: Path, env: dict[str, str]) -> None:
    (folder / "far").write_text(STAND_IN)
    (folder / "far").chmod(0o755)
    (folder / "tasks.txt").write_text("true\n" * TASKS_OF_ENGINES)
    seconds, _ = run(("-s", f"n[001-{ENGINES:03}]:1", "--ssh", "./far"), folder, env, 0, TASKS_OF_ENGINES)
    events = [json.loads(line) for line in (folder / "run0_events.jsonl").read_text().splitlines()]
    joined = sorted(each["t"] - events[0]["t"] for each in events if each["kind"] == "engine" and each["what"] == "joined")
    if len(joined) != ENGINES:
        raise SystemExit(f"{len(joined)} engines of {ENGINES} joined")
    print(
        f"  {ENGINES} agents, {TASKS_OF_ENGINES} tasks: {seconds:.1f} s; engines joined after {joined[0]:.2f} s (first), "
        f"{joined[len(joined) // 2]:.2f} s (half), {joined[-1]:.2f} s (last)"
    )


def main() -> None:
    from ssh_hosts import SshHosts

    lines = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    if os.getuid():
        print("needs root, for hosts in namespaces of their own")
        return
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}; {lines} tasks `true`, {rounds} rounds")
    hosts = SshHosts()
    try:
        with tempfile.TemporaryDirectory() as name:
            env = {**os.environ, **hosts.env}
            speed(Path(name), env, lines, rounds)
            scale(Path(name), env)
    finally:
        hosts.close()


if __name__ == "__main__":
    main()
