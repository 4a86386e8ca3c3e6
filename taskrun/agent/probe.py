"""What this node is: cores, memory, names. Facts for the handshake."""

import os
import socket
import stat
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
    """Return the paths where a private directory of this name may be made, the best first: nobody else can put another there."""
    found = []
    for parent in (os.environ.get("TMPDIR"), "/tmp", "/dev/shm", "/var/tmp", "."):  # noqa: S108 - see above
        try:
            real = os.path.realpath(parent) if parent else ""
        except OSError:
            continue  # the working directory is gone
        if real and len(os.fsencode(real)) <= 60 and keeps(real):
            found.append(os.path.join(real, name))
    return found


def keeps(folder: str) -> bool:
    """Return whether what we make in a directory stays ours: nobody but us and the system's owner can rename it, or one above it.

    Others may make files of their own in there if it has the sticky bit, as /tmp has.
    """
    try:
        path = os.path.realpath(folder)
        trusted = (0, os.geteuid(), os.stat("/").st_uid)  # in a container root may be seen as another
        while True:
            found = os.stat(path)
            if found.st_uid not in trusted or (found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX):
                return False
            if path == "/":
                return True
            path = os.path.dirname(path)
    except OSError:
        return False


def facts() -> dict:
    return {
        "host": socket.gethostname(),
        "boot": boot_id(),
        "pid": os.getpid(),
        "cores": cores(),
        "memory": memory(),
        "python": "%d.%d.%d" % sys.version_info[:3],
    }
