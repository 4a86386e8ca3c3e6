"""taskrun beside xargs, GNU Parallel, disBatch, HyperQueue and HyperShell: the same lines, interleaved in one run.

    rivals.py [ROUNDS]

Prints, for each workload, the median wall time of each program, lines a second, and its share of the ideal where there is one. Start-up is
counted. The rivals are installed into .venv-rivals (pip) when they are not there. disBatch looks at each task once a second: it gets a
fortieth of the short lines, and its rate is what is compared.
"""

from __future__ import annotations

import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
RIVALS = ROOT / ".venv-rivals"
DISBATCH_SHARE = 40

HYPERQUEUE = """\
import sys
from hyperqueue import Job, LocalCluster
from hyperqueue.cluster import WorkerConfig
with open(sys.argv[1]) as file, LocalCluster() as cluster:
    cluster.start_worker(WorkerConfig(cores=int(sys.argv[2])))
    client = cluster.client()
    job = Job(max_fails=0)
    for line in file.read().splitlines():
        job.program(["bash", "-c", line], stdout=None, stderr=None)
    client.wait_for_jobs([client.submit(job)])
"""


class Workload(NamedTuple):
    name: str
    lines: list[str]
    slots: int
    ideal: float | None  # seconds, with no cost at all; None when the processors are the limit
    short: bool = True


def workloads() -> list[Workload]:
    rng = random.Random(1)
    lengths = [rng.lognormvariate(-3.0, 1.0) for _ in range(400)]
    lengths[37] = 4.0
    return [
        Workload("true", ["true"] * 2000, 2, None),
        Workload("/bin/true N > /dev/null", [f"/bin/true {n} > /dev/null" for n in range(2000)], 2, None),
        Workload("sleep 0.05", ["sleep 0.05"] * 800, 8, 5.0),
        Workload("sleep 1 x 640 on 64 slots", ["sleep 1"] * 640, 64, 10.0, short=False),
        Workload("log-normal lengths, one giant", [f"sleep {n:.3f}" for n in lengths], 8, max(sum(lengths) / 8, *lengths)),
        Workload("1 MB printed by each", ["head -c 1000000 /dev/zero"] * 600, 2, None),
    ]


def commands() -> dict[str, Callable[[str, int], list[str]]]:
    here = str(RIVALS / "bin")
    return {
        "taskrun": lambda path, slots: [sys.executable, "-m", "taskrun", path, "-s", f"localhost:{slots}", "-q"],
        "xargs": lambda path, slots: ["xargs", "-a", path, f"-P{slots}", "-d\n", "-n1", "bash", "-c"],
        "GNU Parallel": lambda path, slots: ["parallel", "--plain", f"-j{slots}", "-a", path],
        "HyperQueue": lambda path, slots: [f"{here}/python", "-c", HYPERQUEUE, path, str(slots)],
        "HyperShell": lambda path, slots: [f"{here}/hsx", path, f"-N{slots}", "--no-db", "--no-confirm", "--no-tls"],
        "disBatch": lambda path, slots: [f"{here}/disBatch", "-s", f"localhost:{slots}", path],
    }


def install() -> None:
    if not (RIVALS / "bin" / "hsx").exists():
        subprocess.run([sys.executable, "-m", "venv", str(RIVALS)], check=True)
        subprocess.run([RIVALS / "bin" / "pip", "install", "-q", "hyperqueue", "hypershell", "disbatch"], check=True)


def measure(command: Callable[[str, int], list[str]], lines: list[str], slots: int) -> float:
    """Seconds of the whole process, in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "tasks.txt").write_text("".join(line + "\n" for line in lines))
        began = time.perf_counter()
        subprocess.run(
            command("tasks.txt", slots),
            cwd=folder,
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        return time.perf_counter() - began


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    install()
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}, {rounds} rounds, medians")
    for workload in workloads():
        seconds: dict[str, list[float]] = {name: [] for name in commands()}
        counts = {}
        for _ in range(rounds):
            for name, command in commands().items():
                few = name == "disBatch" and workload.short
                lines = workload.lines[:: DISBATCH_SHARE if few else 1]
                counts[name] = len(lines)
                seconds[name].append(measure(command, lines, workload.slots))
        print(f"\n{workload.name} ({len(workload.lines)} lines, {workload.slots} slots)")
        rate = {name: counts[name] / statistics.median(values) for name, values in seconds.items()}
        for name, values in seconds.items():
            median = statistics.median(values)
            share = f"{100 * workload.ideal / median:5.1f}% of ideal" if workload.ideal and counts[name] == len(workload.lines) else ""
            row = (
                f"  {name:13} {median:7.2f} s  {rate[name]:8.1f} lines/s  taskrun is {rate['taskrun'] / rate[name]:6.2f} x as fast  {share}"
            )
            print(row.rstrip())


if __name__ == "__main__":
    main()
