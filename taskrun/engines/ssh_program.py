"""Data through the user's own ssh program (`--ssh COMMAND`): each session is a process of it, as the sessions of `sftp -S` are."""

from __future__ import annotations

from taskrun.engines.bootstrap import python_command
from taskrun.engines.command import host_words, ssh_words
from taskrun.engines.streams import ProgramStream, What


class ProgramHost:
    """A host that `--ssh COMMAND` reaches."""

    def __init__(self, command: str, address: str) -> None:
        self._words = ssh_words(command)
        self._host = host_words(command, address)

    def session(self, what: What, silent: float) -> ProgramStream:
        """One more. Raises OSError."""
        if what == "sftp":
            return ProgramStream([*self._words, "-s", *self._host, "sftp"], what, silent)
        return ProgramStream([*self._words, *self._host, python_command(what)], what, silent)
