"""Short lines, taskrun beside xargs, interleaved in one run: `throughput.py [LINES [ROUNDS]]`.

Prints the median wall time of each and the median of the pairwise ratios (above 1: taskrun was faster). Start-up is counted, all records
are written.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SLOTS = 2
COMMANDS = {
    "taskrun": [sys.executable, "-m", "taskrun", "tasks.txt", "-s", f"localhost:{SLOTS}", "-q"],
    "taskrun --starter builtin": [sys.executable, "-m", "taskrun", "tasks.txt", "-s", f"localhost:{SLOTS}", "-q", "--starter", "builtin"],
    "xargs": ["xargs", f"-P{SLOTS}", "-d\n", "-n1", "bash", "-c"],
}
WORKLOADS = {"/bin/true N > /dev/null": "/bin/true {} > /dev/null", "true": "true"}


def run(name: str, command: list[str], folder: Path, number: int) -> float:
    """Seconds of one whole process."""
    arguments = [*command, "-p", f"run{number}"] if name != "xargs" else command
    with (folder / "tasks.txt").open("rb") as lines:
        began = time.perf_counter()
        subprocess.run(arguments, cwd=folder, check=True, stdin=lines if name == "xargs" else subprocess.DEVNULL)
        seconds = time.perf_counter() - began
    status = folder / f"run{number}_status.txt"
    if name != "xargs" and status.read_bytes().count(b"\n") != (folder / "tasks.txt").read_bytes().count(b"\n"):
        raise SystemExit(f"{name}: records are missing")
    return seconds


def main() -> None:
    lines = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    print(
        f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}; {lines} lines, {SLOTS} slots, {rounds} rounds"
    )
    for workload, text in WORKLOADS.items():
        seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "tasks.txt").write_text("".join(text.format(number) + "\n" for number in range(lines)))
            number = 0
            for _ in range(rounds):
                for what, command in COMMANDS.items():
                    number += 1
                    seconds[what].append(run(what, command, folder, number))
        print(workload)
        for what, values in seconds.items():
            ratio = statistics.median(base / value for base, value in zip(seconds["xargs"], values, strict=True))
            median = statistics.median(values)
            print(f"  {what:27} {median:7.2f} s  {lines / median:6.0f} lines/s  {ratio:5.3f} x xargs")


if __name__ == "__main__":
    main()
