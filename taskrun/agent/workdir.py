"""Where tasks run on a host: in the driver's working directory where the host shares it, else where `--workdir` says."""

import errno
import os
import re
import time

TOKEN_TRIES = 4  # a network file system may show a new file a little late
TOKEN_PAUSE = 0.5  # seconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict


class Unusable(OSError):
    """Tasks cannot run here; its text is one sentence."""

    def __init__(self, why: str) -> None:
        OSError.__init__(self, why)
        self.why = why

    def __str__(self) -> str:
        return self.why


def is_shared(cwd: str, token: "Dict[str, Any]") -> bool:
    """Whether `cwd` is the driver's: the run's lock can be read through the same path, and says the same run.

    `token`: path and text of the lock; with an inode number where it lies elsewhere than in `cwd`, which must then be the same.
    """
    for trial in range(TOKEN_TRIES):
        if not os.path.isdir(cwd):
            return False
        try:
            os.listdir(os.path.dirname(token["path"]))  # what the system remembers of a folder is looked at anew
            with open(token["path"], "rb") as file:
                found = token["text"].encode("ascii") in file.read(1 << 16)
            return found and (not token["inode"] or os.stat(cwd).st_ino == token["inode"])
        except OSError:
            if trial < TOKEN_TRIES - 1 and os.path.isdir(os.path.dirname(token["path"])):
                time.sleep(TOKEN_PAUSE)
            else:
                break
    return False


def place(cwd: str, wanted: str) -> str:
    """Return the directory of `--workdir`: `~` and variables are this host's, relative to the home. Raises Unusable when there is none."""
    if not wanted:
        raise Unusable("this host does not share the working directory %s: give one there with --workdir DIR" % cwd)

    def value(found: "Any") -> str:
        name = found.group(1) or found.group(2)
        if not os.environ.get(name):
            raise Unusable("--workdir %s: %s is not set on this host" % (wanted, name))
        return os.environ[name]

    path = os.path.expanduser(wanted)
    if path.startswith("~"):
        raise Unusable("--workdir %s: there is no user %s on this host" % (wanted, path[1:].partition("/")[0]))
    return os.path.abspath(os.path.join(os.path.expanduser("~"), re.sub(r"\$(?:(\w+)|\{(\w+)\})", value, path)))


def check(cwd: str, wanted: str) -> None:
    """Whether `settle` would find or make it. Raises Unusable."""
    path = place(cwd, wanted)
    needed = os.X_OK
    while not os.path.lexists(path):
        path = os.path.dirname(path)
        needed = os.W_OK | os.X_OK
    try:
        if not os.path.isdir(path):
            raise NotADirectoryError(errno.ENOTDIR, "")
        if not os.access(path, needed):
            raise PermissionError(errno.EACCES, "")
    except OSError as error:
        raise Unusable("--workdir %s: %s" % (wanted, os.strerror(error.errno or 0))) from None


def settle(config: "Dict[str, Any]") -> None:
    """Choose the working directory: sets `cwd` and `shared` of the config. Raises Unusable."""
    cwd = config["cwd"]
    config["shared"] = is_shared(cwd, config["token"])
    if config["shared"]:
        return
    wanted = config["workdir"]
    if not wanted and config["token"]["inode"] and os.path.isdir(cwd):
        files = os.path.dirname(config["token"]["path"])
        raise Unusable("this host has a folder %s, but whether it is the same cannot be told here, where the run's files in %s "
                       "are not seen: give a -p that all hosts see, or --workdir DIR" % (cwd, files))  # fmt: skip
    path = place(cwd, wanted)
    try:
        os.makedirs(path, exist_ok=True)
        os.chdir(path)
    except OSError as error:
        raise Unusable("--workdir %s: %s" % (wanted, os.strerror(error.errno or 0))) from None
    config["cwd"] = path
