"""What this node is: cores, memory, names. Facts for the handshake."""

import os
import socket
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List, Tuple


def boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return ""


def memory() -> int:
    """Bytes of memory of this node, 0 if unknown."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return 0


def available() -> int:
    """Bytes of memory that programs could have now without swapping, 0 if unknown."""
    try:
        with open("/proc/meminfo") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return 0


def space(path: str) -> "Tuple[int, int]":
    """Bytes free in a folder, and of the file system that it is on; zeros if unknown."""
    try:
        found = os.statvfs(path)
    except OSError:
        return 0, 0
    return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize


def cores() -> int:
    """Cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        return os.cpu_count() or 1


def places(name: str) -> "List[str]":
    """Where a private folder of this name may be made, the best place first."""
    parents = (os.environ.get("TMPDIR"), "/tmp", "/dev/shm", "/var/tmp", ".")  # noqa: S108 - the name is one that nobody can guess
    found = []
    for parent in parents:
        if parent and len(os.fsencode(parent)) <= 60:
            try:
                found.append(os.path.join(os.path.abspath(parent), name))
            except OSError:
                pass  # the working directory is gone
    return found


def facts() -> dict:
    return {
        "host": socket.gethostname(),
        "boot": boot_id(),
        "pid": os.getpid(),
        "cores": cores(),
        "memory": memory(),
        "python": "%d.%d.%d" % sys.version_info[:3],
    }
