"""A folder of this machine, under the same path on hosts of the testbed: as a network file system, but one that no cut reaches."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from ssh_hosts import SshHosts

#: open_tree takes the mount out of this machine's name space, move_mount puts it into the host's; mount(8) cannot do that.
_MOUNT = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(*arguments):
    found = libc.syscall(*arguments)
    if found < 0:
        sys.exit(os.strerror(ctypes.get_errno()))
    return found
path = sys.argv[1].encode()
here = -100
tree = call(428, here, path, 1)
if libc.setns(os.open(sys.argv[2], os.O_RDONLY), 0x20000):
    sys.exit(os.strerror(ctypes.get_errno()))
os.makedirs(path, exist_ok=True)
call(429, tree, b"", here, path, 4)
"""


class Sharing:
    """`folder` on hosts. After a host has booted it must be shared again."""

    def __init__(self, hosts: SshHosts, folder: Path) -> None:
        self.hosts = hosts
        self.folder = folder
        self._top = Path(*folder.parts[:3])  # /tmp/pytest-of-root: what must go again

    def share(self, *numbers: int) -> None:
        for k in numbers:
            namespace = self.hosts.path(k, "/").parent / "ns" / "mnt"
            subprocess.run([sys.executable, "-c", _MOUNT, self.folder, namespace], check=True)

    def end(self, *numbers: int) -> None:
        for k in numbers:
            if self.hosts.exec(k, "true", check=False).returncode:
                continue  # it has no power, and its folders went with it
            while self.hosts.exec(k, "umount", "-l", str(self.folder), check=False).returncode == 0:
                pass
            if self._top != self.folder:
                shutil.rmtree(self.hosts.path(k, str(self._top)), ignore_errors=True)
