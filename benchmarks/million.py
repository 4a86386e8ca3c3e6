"""A run of very many lines to its end, and what each 100,000 of them cost: `million.py [LINES [SLOTS]]`.

Prints, for each tenth, wall time, records a second, the driver's processor time a task and its resident memory; and when the first task
had its record.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


class Driver:
    def __init__(self, pid: int) -> None:
        self.pid = pid

    def cpu(self) -> float:
        """Seconds of the driver itself, its agents not counted."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def memory(self) -> int:
        """Bytes resident."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * PAGE


def lines_of(path: Path, seen: list[int]) -> int:
    """Lines of a growing file; `seen` holds [position, count]."""
    with path.open("rb") as file:
        file.seek(seen[0])
        while data := file.read(1 << 20):
            seen[0] += len(data)
            seen[1] += data.count(b"\n")
    return seen[1]


def main() -> None:
    lines = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    slots = int(sys.argv[2]) if len(sys.argv) > 2 else 2
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}; {lines} lines of `true`, {slots} slots")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "tasks.txt").write_text("true\n" * lines)
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "taskrun", "tasks.txt", "-s", f"localhost:{slots}", "-q", "-p", "run"],
            cwd=folder,
            stdin=subprocess.DEVNULL,
        )
        driver = Driver(process.pid)
        status = folder / "run_status.txt"
        seen = [0, 0]
        peak = 0
        step = lines // 10
        last = (0, 0.0, 0.0)
        while process.poll() is None:
            time.sleep(0.01 if not seen[1] else 0.25)
            try:
                peak = max(peak, driver.memory())
                cpu = driver.cpu()
            except (OSError, IndexError):
                break
            before = seen[1]
            count = lines_of(status, seen) if status.exists() else 0
            now = time.monotonic() - began
            if count and not before:
                print(f"first record after {now:.2f} s", flush=True)
            if count >= last[0] + step:
                done = count - last[0]
                each = 1e6 * (cpu - last[2]) / done
                print(
                    f"{count:9} records  {now:8.1f} s  {done / (now - last[1]):7.0f}/s  driver {each:6.1f} us a task"
                    f"  {driver.memory() / 1e6:6.1f} MB",
                    flush=True,
                )
                last = (count, now, cpu)
        if process.wait():
            raise SystemExit(f"exit {process.returncode}")
        print(f"all {lines_of(status, seen)} records after {time.monotonic() - began:.1f} s; driver at most {peak / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
