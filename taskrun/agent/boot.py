"""The loader, sent first through standard input: takes the agent's files from there, keeps them in memory, starts it below itself.

The driver sends `engines/bootstrap.py`'s archive: JSON of name -> source text, compressed. Nothing is written to a disk for it.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import types


STALL = 10.0  # seconds without a byte of the agent


def read(size: int) -> bytes:
    import select

    data = b""
    while len(data) < size:
        if not select.select([0], [], [], STALL)[0]:
            sys.exit("taskrun: only %d of the agent's %d bytes came: does a login script here read standard input?" % (len(data), size))
        chunk = os.read(0, size - len(data))
        if not chunk:
            sys.exit("taskrun: the connection ended before the agent had come")
        data += chunk
    return data


class Shipped(object):
    """Imports the agent's modules from their texts."""

    def __init__(self, texts: dict) -> None:
        self.texts = texts
        self.codes: dict = {}

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> object:
        if name not in self.texts:
            return None
        from importlib.machinery import ModuleSpec

        return ModuleSpec(name, self, is_package="." not in name)  # type: ignore[arg-type]

    def create_module(self, _spec: object) -> None:
        return None

    def exec_module(self, module: object) -> None:
        exec(self.get_code(module.__name__), module.__dict__)  # type: ignore[attr-defined]  # noqa: S102 - our own files

    def get_code(self, name: str) -> "types.CodeType":
        if name not in self.codes:  # a slot's are asked for twice: for its files, too
            self.codes[name] = compile(self.texts[name], "<%s>" % name, "exec")
        code: types.CodeType = self.codes[name]
        return code


def guard(stay: bool) -> None:
    """Go on in a child. This process waits for it and exits as it did: an end by a signal would be no exit code for ssh.

    `stay`: signals are for the child. SLURM sends them to all processes of a step, and passes standard input to the first alone.
    """
    import signal

    numbers = [
        number for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1) if signal.getsignal(number) != signal.SIG_IGN
    ]
    for number in numbers:
        signal.signal(number, (lambda *_: None) if stay else signal.SIG_DFL)
    try:
        pid = os.fork()
    except OSError as error:
        sys.exit("taskrun: no process can be started on this host (%s)" % error.strerror)
    if not pid:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)
        return
    _, status = os.waitpid(pid, 0)
    os._exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))


def start(size: int, digest: str) -> int:
    if sys.version_info < (3, 6):
        sys.exit("taskrun: its python3 is %d.%d, and 3.6 or newer is needed" % sys.version_info[:2])
    import json
    import zlib

    try:
        from _sha256 import sha256  # type: ignore[import-not-found]  # hashlib loads OpenSSL: 2 ms of a start
    except ImportError:
        from hashlib import sha256  # Python 3.12
    data = read(size)
    if sha256(data).hexdigest() != digest:
        sys.exit(
            "taskrun: what came is not the agent that was sent; something on this host reads or changes the standard input of commands"
        )
    sys.meta_path.insert(0, Shipped(json.loads(zlib.decompress(data).decode())))  # type: ignore[arg-type]
    stay = "stay" in sys.argv[1:]
    del sys.argv[1:]
    from importlib import import_module

    import_module("agent.title").show("taskrun agent (waits for its end)")
    guard(stay)
    return int(import_module("agent.main").main(shipped=True))
