"""An agent's private folder, when nobody is left who could tidy it up. Slots use this: it imports only what is built into Python."""

import _socket
import posix

#: Into a folder, and through no link.
_INTO = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC


def remove(path: str) -> None:
    """Remove a private folder: the agent's own end, or its slots (each tries, the last one succeeds), or whoever takes its place.

    Only a real folder of ours that nobody else may enter is one; anything else at `path` is left alone. Links are removed, never followed.
    """
    try:
        fd = posix.open(path, _INTO)
    except OSError:
        return
    try:
        found = posix.fstat(fd)
        if found.st_uid != posix.geteuid() or found.st_mode & 0o077:
            return
        _empty(fd)
    finally:
        posix.close(fd)
    try:
        posix.rmdir(path)
    except OSError:
        pass


def _empty(folder: int) -> None:
    for name in posix.listdir(folder):
        try:
            posix.unlink(name, dir_fd=folder)
            continue
        except OSError:
            pass  # a folder, or another slot was faster
        try:
            inner = posix.open(name, _INTO, dir_fd=folder)
            try:
                _empty(inner)
            finally:
                posix.close(inner)
            posix.rmdir(name, dir_fd=folder)
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
