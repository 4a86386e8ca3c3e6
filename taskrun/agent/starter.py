"""The two ways to start slots: GNU Parallel (one job = one lease) and the built-in starter, which does the same itself.

GNU Parallel is isolated from the user's surroundings and read for its version rather than run for it (70 ms of Perl).
"""

import os
import re
import signal
import socket
import subprocess

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: A job told to stop by GNU Parallel keeps its own time for ending its task: KILL comes a minute later.
_TERM_SEQUENCE = "TERM,60000,KILL"
PARALLEL_PROCESSES = 10  # that it starts beside its jobs, about
PARALLEL_FILES, FILES_LEFT = 4, 16  # that it wants for each job, and for itself


def quote(text: str) -> str:
    """One word of a /bin/sh command line."""
    return "'" + text.replace("'", "'\\''") + "'"


def parallel_version(path: str) -> str:
    """The version of the GNU Parallel at `path`, '' when that is another program (moreutils has a `parallel`, too)."""
    try:
        with open(path, "rb") as file:
            found = re.search(rb"\$Global::version = (\d{8})\b", file.read(2000000))
    except OSError:
        return ""
    return found.group(1).decode("ascii") if found else ""


def find_parallel(search: str) -> tuple:
    """(path, version) of the first GNU Parallel along a PATH, ('', '') if there is none."""
    for folder in search.split(os.pathsep):
        path = os.path.join(folder or ".", "parallel")
        if os.access(path, os.X_OK) and os.path.isfile(path):
            version = parallel_version(path)
            if version:
                return path, version
    return "", ""


def narrow(slots: int) -> str:
    """Return the limit that GNU Parallel, which starts processes for itself, would meet with so many slots and tasks; '' if none."""
    import resource

    limit = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if 0 <= files < PARALLEL_FILES * slots + FILES_LEFT:  # it would start as many jobs as it has files for
        return "`ulimit -n` is %d" % files
    return "`ulimit -u` is %d" % limit if os.geteuid() and 0 <= limit < 2 * slots + PARALLEL_PROCESSES else ""


def has_perl() -> bool:
    return any(os.access(os.path.join(folder, "perl"), os.X_OK) for folder in os.environ.get("PATH", os.defpath).split(os.pathsep))


def unpack(packed: str, folder: str) -> None:
    """The driver's copy of GNU Parallel, for a host that has none. Where there is no room for it, the built-in starter does."""
    import binascii
    import zlib

    path = shipped_path(folder)
    try:
        os.mkdir(os.path.dirname(path), 0o700)
        with open(path, "wb") as file:
            file.write(zlib.decompress(binascii.a2b_base64(packed)))
        os.chmod(path, 0o700)
    except OSError:
        pass


def shipped_path(folder: str) -> str:
    return os.path.join(folder, "bin", "parallel")


def make(folder: str) -> None:
    """A folder of ours in one that is there. Raises OSError where that has gone: nothing would remove what was made in its place."""
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        pass


def save_probes(path: str, home: str) -> None:
    """Spare this GNU Parallel what it finds out anew in a fresh PARALLEL_HOME, half of its start: facts of Linux, where it keeps them.

    Only a version that reads these very files, with these very contents, is given them.
    """
    with open(path, "rb") as file:
        text = file.read(2000000)
    folder = home
    for name in ("tmp", "sshlogin", socket.gethostname()):
        folder = os.path.join(folder, name)
        make(folder)
    if b'"/linelen"' in text:
        with open(os.path.join(folder, "linelen"), "w") as out:
            out.write("130329")  # bytes of a command line; ours are a few hundred
    if b'"/setpgrp_func"' in text and b"*open3_setpgrp = \\&open3_setpgrp_internal'" in text:
        with open(os.path.join(folder, "setpgrp_func"), "w") as out:
            out.write("*open3_setpgrp = \\&open3_setpgrp_internal")


def save_placeholder(home: str) -> None:
    """A `sleep` that ends at once, for GNU Parallel alone.

    To see how many processes it may have, it starts one `sleep 10101` for each job and two more before its first job, and
    kills them: killed itself in that moment, it would leave them behind. One that has ended and is not yet waited for counts as well.
    """
    path = os.path.join(home, "sleep")
    with open(path, "w") as out:
        out.write("#!/bin/sh\n")
    os.chmod(path, 0o700)


def parallel_command(path: str, slots: int) -> list:
    """The argument list of one GNU Parallel: its jobs are the lines of its stdin, started as they come."""
    return [path, "--plain", "-u", "-j%d" % slots, "--termseq", _TERM_SEQUENCE]


def unreadable(command: list) -> list:
    """The command with a umask under which nobody else may enter what it makes: GNU Parallel makes its home anew, with all folders above.

    A private folder that others may enter is none, and stays where its agent was killed.
    """
    return ["/bin/sh", "-c", 'umask 077; exec "$@"', "sh", *command]


def own_umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def parallel_environment(env: dict, folder: str) -> dict:
    """What GNU Parallel sees of the user's environment: nothing that changes its behaviour or breaks its Perl."""
    clean = {name: value for name, value in env.items() if not name.startswith((b"PARALLEL", b"PERL"))}
    clean[b"PARALLEL_HOME"] = os.fsencode(folder)
    clean[b"PARALLEL_SHELL"] = b"/bin/sh"
    clean[b"SHELL"] = b"/bin/sh"
    clean[b"TMPDIR"] = os.fsencode(folder)
    clean[b"PATH"] = os.fsencode(folder) + b":" + clean.get(b"PATH", os.fsencode(os.defpath))  # see save_placeholder
    clean.pop(b"BASH_ENV", None)
    clean.pop(b"ENV", None)
    clean[b"HOME"] = clean.get(b"HOME") or os.fsencode(
        folder
    )  # it complains where there is none, and its Perl of a locale that is not there
    clean[b"PERL_BADLANG"] = b"0"
    clean[b"SHLVL"] = b"1"  # it runs a bash at its start, which must not read ~/.bashrc
    return clean


def work_of(pids: list) -> tuple:
    """(processes, ticks and page faults) of these processes and all below them: it grows while they do something."""
    left = list(pids)
    count = total = 0
    while left:
        pid = left.pop()
        try:
            with open("/proc/%d/stat" % pid, "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
            total += sum(int(field) for field in fields[7:15])  # faults and times, its own and those of children that ended
            count += 1
            with open("/proc/%d/task/%d/children" % (pid, pid), "rb") as file:
                left += [int(field) for field in file.read().split()]
        except (OSError, ValueError, IndexError):
            pass  # it has ended, or this kernel does not tell
    return count, total


class Builtin(object):
    """Starts each slot as a child of the agent."""

    name = "builtin"

    def __init__(self, arguments: list) -> None:
        self.arguments = arguments
        self.children: dict = {}

    def start(self, lease: str) -> None:
        """Raises OSError when the node has no room for a process."""
        child = subprocess.Popen([*self.arguments, lease], stdin=subprocess.DEVNULL, stdout=2, start_new_session=True)
        self.children[child.pid] = child

    def reap(self) -> bool:
        """Collect children that ended; True while the starter can start more."""
        for pid in [pid for pid, child in self.children.items() if child.poll() is not None]:
            del self.children[pid]
        return True

    def work(self) -> tuple:
        return work_of(list(self.children))

    def close(self) -> None:
        """Nothing more will be started."""

    def kill(self) -> None:
        for child in self.children.values():
            child.kill()
            child.wait()
        self.children.clear()


class Parallel(object):
    """Feeds GNU Parallel one line per lease. Its death harms nobody: the jobs live on, the agent starts another."""

    def __init__(self, arguments: list, path: str, version: str, slots: int, folder: str, env: dict) -> None:
        """Raises OSError, where the agent's folder has gone, too."""
        self.name = "parallel " + version
        # a line that GNU Parallel gets round to after the agent has gone, and its folder with it, has nothing to say
        words = " ".join(quote(word) for word in arguments)
        self.line = "[ -e %s ] || exit 0; umask %03o; exec %s" % (quote(folder), own_umask(), words)
        home = os.path.join(folder, "parallel")
        make(home)
        save_probes(path, home)
        save_placeholder(home)
        self.command = unreadable(parallel_command(path, slots))
        self.env = parallel_environment(env, home)
        self.process: "Any" = None  # an engine that has no tasks yet does not pay for it

    def start(self, lease: str) -> None:
        """Raises OSError when GNU Parallel cannot be started or is gone."""
        if self.process is None:
            self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=2, env=self.env, start_new_session=True, bufsize=0)
        self.process.stdin.write(("%s %s\n" % (self.line, lease)).encode("utf-8", "surrogateescape"))

    def reap(self) -> bool:
        return self.process is None or self.process.poll() is None

    def work(self) -> tuple:
        return work_of([self.process.pid] if self.process is not None else [])

    def close(self) -> None:
        """It waits for its running jobs, then exits."""
        if self.process is not None and not self.process.stdin.closed:
            self.process.stdin.close()

    def kill(self) -> None:
        """Kill GNU Parallel; its jobs go on, in process groups of their own. What it starts for itself does not."""
        if self.process is None:
            return
        self.close()
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except OSError:
            pass  # nothing of it is left
        self.process.wait()
