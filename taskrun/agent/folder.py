"""An agent's private folder, when nobody is left who could tidy it up. Slots use this: it imports only what is built into Python."""

import _socket
import posix


def remove(path: str) -> None:
    """The agent is gone and cannot tidy up: its slots do (each tries, the last one succeeds)."""
    try:
        for name in posix.listdir(path):
            inner = path + "/" + name
            try:
                posix.unlink(inner)
            except IsADirectoryError:
                remove(inner)
            except OSError:
                remove(inner)
        posix.rmdir(path)
    except OSError:
        pass


def is_gone(path: str) -> bool:
    """The socket is there and nobody listens: the agent was killed. (One that ends removes its folder itself.)"""
    probe = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    try:
        probe.connect(path)
    except ConnectionRefusedError:
        return True
    except OSError:
        pass
    finally:
        probe.close()
    return False
