"""Whose records are obeyed: those that nobody but the caller and root can have written.

A resume does what the sidecar of the earlier run says (it runs programs named there), and believes its other files. The rule is that of
git's safe.directory and of ssh's StrictModes, for the file alone, as it is open: its owner is the caller or root (for root under sudo also
the user who called sudo), and others cannot write to it. Its folder is not looked at: who replaces a file there becomes its owner.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shlex
import stat
from pathlib import Path
from typing import BinaryIO

from taskrun.errors import Handled, Refused

_ACL = "system.posix_acl_access"  # with it the mode's group bits are those of whoever it names
_OF_A_RUN = r"(.+)_(?:status\.txt|run\.json|events\.jsonl|tasks\.txt|files\.txt)"
_everybody = False


class Untrusted(Handled):
    """Somebody else may have written a record.

    Not a Refused: who goes on where a record is missing or damaged (there is none of disBatch's runs) must not go on past this.
    """


def trust_everybody(yes: bool) -> None:
    """Obey records whoever wrote them (--trust-records), in this process."""
    global _everybody  # noqa: PLW0603 - said once, by the command line, for every reader
    _everybody = yes


def check(fd: int, path: Path, instead: str = "or give --trust-records") -> None:
    """Raise Untrusted if somebody else may have written the open file `path`. `instead`: what helps beside a copy, '' for nothing."""
    if _everybody and instead:
        return
    found = os.fstat(fd)
    if found.st_uid not in _trusted():
        raise Untrusted(f"{path} belongs to {_user(found.st_uid)}, {_then(_copy(path), instead)}")
    if found.st_mode & stat.S_IWOTH or (found.st_mode & stat.S_IWGRP and not _is_private(fd, found)):
        who = "everybody" if found.st_mode & stat.S_IWOTH else f"group {_group(found.st_gid)}"
        close = f"chmod go-w {_every(path)} if you know what it says"
        raise Untrusted(f"{path} can be written by {who} (mode {stat.S_IMODE(found.st_mode):04o}), {_then(close, instead)}")


def opened(path: Path, *, obeyed: bool = True) -> BinaryIO:
    """The regular file `path`, open for reading, checked as above if it is to be `obeyed`. Raises OSError, Refused, Untrusted."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe in its place would keep us waiting
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise Refused(f"{path} is not a regular file: records are kept in one")
        if obeyed:
            check(fd, path)
        return os.fdopen(fd, "rb")
    except BaseException:
        os.close(fd)
        raise


def _every(path: Path) -> str:
    """Every file of the run, as a shell takes it: what is true of one is mostly true of all."""
    found = re.fullmatch(_OF_A_RUN, path.name, re.DOTALL)
    return f"{shlex.quote(str(path.with_name(found[1])))}_*" if found else shlex.quote(str(path))


def _copy(path: Path) -> str:
    return f"copy {_every(path)} to a directory of your own and resume there if you know what they say"


def _then(advice: str, instead: str) -> str:
    return f"and taskrun would do what it says: {advice}{f', {instead}' if instead else ''}"


def _trusted() -> set[int]:
    caller = os.geteuid()
    by_sudo = os.environ.get("SUDO_UID", "") if caller == 0 else ""
    return {0, caller} | ({int(by_sudo)} if by_sudo.isdecimal() else set())


def _is_private(fd: int, found: os.stat_result) -> bool:
    """The group is its owner's alone, as where the umask is 002: primary, called like the owner, and without other members."""
    import grp  # only where a group may write

    with contextlib.suppress(OSError):
        os.getxattr(fd, _ACL)
        return False
    with contextlib.suppress(KeyError):
        owner, group = pwd.getpwuid(found.st_uid), grp.getgrgid(found.st_gid)
        return owner.pw_gid == group.gr_gid and group.gr_name == owner.pw_name and set(group.gr_mem) <= {owner.pw_name}
    return False


def _user(uid: int) -> str:
    with contextlib.suppress(KeyError):
        return f"user {pwd.getpwuid(uid).pw_name}"
    return f"user {uid}"


def _group(gid: int) -> str:
    import grp

    with contextlib.suppress(KeyError):
        return grp.getgrgid(gid).gr_name
    return str(gid)
