"""What a host is sent first, as an argument of its Python: takes the agent's files from standard input, keeps them in memory, starts it.

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
    del sys.argv[1:]
    from importlib import import_module

    return int(import_module("agent.main").main(shipped=True))
