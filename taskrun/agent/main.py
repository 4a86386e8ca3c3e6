"""Where an agent starts: takes the link over, says what this node is, makes its private folder, serves."""

import _frozen_importlib_external
import marshal
import os
import sys
import time

from . import ending, folder, losses, orphans, probe, process, slot, starter, title, wire, workdir
from .loop import Agent

#: Of a compiled file.
_HEAD = _frozen_importlib_external.MAGIC_NUMBER + b"\0" * (12 if sys.version_info >= (3, 7) else 8)


def own_link() -> tuple:
    """Move the link off descriptors 0 and 1, so that a stray print cannot corrupt it. Exits where there is no /dev/null."""
    try:
        null = os.open("/dev/null", os.O_RDWR)
        while null <= 2:  # what started this closed standard error: the link would get its number
            os.set_inheritable(null, True)
            null = os.open("/dev/null", os.O_RDWR)
    except OSError as error:
        sys.exit("taskrun: /dev/null cannot be opened on this host (%s)" % error.strerror)
    link_in = os.dup(0)
    link_out = os.dup(1)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    os.set_blocking(link_in, False)
    os.set_blocking(link_out, False)
    return link_in, link_out


def make_folder(name: str) -> str:
    """The agent's private folder (0700). Its path is short enough for a socket. Raises OSError when none can be made."""
    mask = starter.own_umask()
    if mask & 0o700:
        raise OSError("umask %03o takes new files from their owner here" % mask)
    error = None
    for place in probe.places(name):
        try:
            os.mkdir(place, 0o700)
        except OSError as caught:
            error = error or caught
            continue
        try:
            compile_programs(place)
            return place
        except OSError as caught:
            error = error or caught
            folder.remove(place)
    raise error or OSError("others could exchange what is made in $TMPDIR, /tmp, /dev/shm or /var/tmp: set TMPDIR to a folder of your own")


def slot_command(place: str) -> list:
    """The argument list of a slot, but for its own arguments. On one line, as GNU Parallel takes it.

    Python would complain into the engine's log about a program that has gone, with the agent, just before a late slot starts.
    """
    code = 'import marshal, sys\\ntry: file = open(sys.argv[1], "rb")\\nexcept OSError: sys.exit(0)\\n'
    code += "del sys.argv[0]\\nwith file: code = marshal.loads(file.read()[%d:])\\nexec(code)" % len(_HEAD)
    return [os.path.realpath(sys.executable), "-I", "-S", "-E", "-c", "exec('%s')" % code, os.path.join(place, "slot.pyc")]


def compile_programs(place: str) -> None:
    """Slots start from compiled files: compiling them anew for every lease would cost more than starting Python."""
    for module in (slot, process, ending, folder, orphans):
        name = module.__name__
        code = module.__spec__.loader.get_code(name)  # type: ignore[union-attr]  # from Python's own cache, if there is one
        with open(os.path.join(place, name.rpartition(".")[2] + ".pyc"), "wb") as file:
            file.write(_HEAD + marshal.dumps(code))


def greet(link_in: int, link_out: int, shipped: bool) -> dict:
    """Say hello, tell what is asked, until the driver's `config` comes: that. Exits when the driver has gone."""
    facts = probe.facts()
    if shipped:
        facts["parallel"] = starter.find_parallel(os.environ.get("PATH", os.defpath))[1]
        facts["perl"] = int(starter.has_perl())
    hello = dict({"k": "hello", "protocol": wire.PROTOCOL}, **facts)
    os.set_blocking(link_out, True)
    os.set_blocking(link_in, True)
    write(link_out, wire.MARKER + b"\n" + wire.frame(hello))
    while True:
        # one frame, read exactly: what follows the config belongs to the loop
        size = _exactly(link_in, 4)
        message: dict = wire.Decoder().feed(size + _exactly(link_in, int.from_bytes(size, "big")))[0]
        if message["k"] == "config":
            message["came"] = time.time()
            break
        if message["k"] == "ping":
            write(link_out, wire.frame({"k": "pong", "now": time.time()}))
        elif message["k"] == "look":
            write(link_out, wire.frame(look(message, shipped)))
    os.set_blocking(link_out, False)
    os.set_blocking(link_in, False)
    return message


def look(message: dict, shipped: bool) -> dict:
    """Whether tasks could run here, in the driver's working directory or in `workdir`. Nothing stays."""
    shared = not shipped or bool(message["token"] and workdir.is_shared(message["cwd"], message["token"]))
    why = ""
    try:
        if not shared:
            workdir.check(message["cwd"], message["workdir"])
        folder.remove(make_folder(message["folder"]))
    except workdir.Unusable as error:
        why = error.why
    except OSError as error:
        why = "no folder for temporary files: %s" % error
    return {"k": "looked", "now": time.time(), "shared": shared, "why": why}


def write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _exactly(fd: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = os.read(fd, size - len(data))
        if not chunk:
            sys.exit(0)
        data += chunk
    return data


def sweep(paths: list) -> None:
    """Remove what killed agents of this run have left here: their private folders, once nobody listens in them any more.

    Each path is the one that its agent has reported. It is looked at again: a folder that others can rename may not be the one it was.
    """
    for path in paths:
        kept = os.path.isabs(path) and probe.keeps(os.path.dirname(path))
        if kept and (not os.path.lexists(path + "/s") or folder.is_gone(path + "/s")):
            folder.remove(path)


def main(shipped: bool = False) -> int:
    """`shipped`: this is another host, which may not see the driver's working directory."""
    held = [int(number) for number in sys.argv[1:]]
    for fd in held:
        os.set_inheritable(fd, False)
    link_in, link_out = own_link()
    config = greet(link_in, link_out, shipped)
    if shipped:
        title.show("taskrun agent %s" % config["run"])
    sweep(config["sweep"])
    try:
        if shipped:
            held += losses.hold(config["run"])
            workdir.settle(config)
        place = make_folder(config["folder"])
    except OSError as error:
        os.set_blocking(link_out, True)
        why = str(error) if isinstance(error, workdir.Unusable) else "no folder for temporary files: %s" % error
        write(link_out, wire.frame({"k": "useless", "why": why}))
        return 1
    if config.get("parallel"):
        starter.unpack(config.pop("parallel"), place)
    config["slot_command"] = slot_command(place)
    agent = Agent(link_in, link_out, config, place, held)
    try:
        agent.serve()
    finally:
        agent.close()
    if agent.alone and config.get("alone"):
        os.execv("/bin/sh", ["sh", "-c", config["alone"]])
    return 0
