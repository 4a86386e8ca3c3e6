"""What nothing that starts agents can do without, looked at before anything is written."""

from __future__ import annotations

import errno
import os
import resource
import stat

from taskrun.errors import Refused

DESCRIPTORS = 32  # beside those that are open: files, links of one engine, the door, what is opened for a moment


def check() -> None:
    """Raises Refused."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    try:
        taken = len(os.listdir("/proc/self/fd"))
    except FileNotFoundError:  # there is no /proc
        taken = 3
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            raise
        taken = limit
    if 0 <= limit < taken + DESCRIPTORS:
        raise Refused(f"`ulimit -n` is {limit}, and taskrun needs {taken + DESCRIPTORS} here: raise it")
    mask = os.umask(0o077)
    os.umask(mask)
    if mask & stat.S_IRWXU:
        raise Refused(
            f"umask {mask:03o} takes new files from their owner, and taskrun reads its own again: set `umask 077`, or a smaller one"
        )
    try:
        is_device = stat.S_ISCHR(os.stat(os.devnull).st_mode)  # noqa: PTH116 - a device, not a file of anybody's
    except OSError:
        is_device = False
    if not is_device:
        raise Refused(
            f"{os.devnull} is no device, and tasks would read what is in it: have root replace it, `mknod -m 666 {os.devnull} c 1 3`"
        )
