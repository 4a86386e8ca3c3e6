"""Engines behind a program's standard input and output: the user's own ssh (`--ssh COMMAND`), a job step of SLURM (srun).

The agent is shipped through the program's standard input; what the program says on standard error goes to the engine's log.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path

from taskrun.engines import bootstrap
from taskrun.engines.child import ChildAgent
from taskrun.engines.link import ECHO, LAST_WORDS
from taskrun.errors import Refused
from taskrun.status import opening
from taskrun.visible import visible

#: What a program says when another try may go better. OpenSSH's words; srun is asked again whatever it says.
_TRANSIENT = re.compile(
    r"refused|timed out|closed by|reset by|reset|unreachable|no route|exchange_identification|temporarily|busy", re.IGNORECASE
)


_LOST = 255  # exit code of OpenSSH's where it is not the remote command's


class CommandAgent(ChildAgent):
    """An agent that a program reaches."""

    def __init__(self, argv: list[str], log: Path, log_fd: int, env: Mapping[str, str] | None = None) -> None:
        """`log_fd`: `log`, opened for appending. Raises OSError when the program cannot be started."""
        self.log = log
        self.log_start = os.fstat(log_fd).st_size
        super().__init__(argv, log_fd, env=env)
        self.link.send_bytes(bootstrap.shipment())

    @property
    def failure(self) -> str:
        return last_words(self.log, self.log_start)

    @property
    def permanent(self) -> bool:
        said = self.failure
        return bool(said) and not _TRANSIENT.search(said)

    @property
    def lives_on(self) -> bool:
        code = self.process.poll()
        return code is None or code == _LOST or code < 0  # else the host itself has said that the agent is no more

    @property
    def died(self) -> bool:
        return self.code > 0 and not self.lives_on


def last_words(log: Path, start: int) -> str:
    """The last line that was written to a log after `start`, '' if there is none; less our command, where a program complains about it."""
    lines = [line.strip() for line in said_since(log, start).splitlines() if line.strip()]
    before, ours, _ = lines[-1].partition(ECHO.decode()) if lines else ("", "", "")
    return f"{before}{ours}…" if ours else before


def said_since(log: Path, start: int) -> str:
    """The end of what was written to a log after `start`."""
    try:
        with os.fdopen(opening.to_read(log), "rb") as file:
            file.seek(max(start, file.seek(0, os.SEEK_END) - LAST_WORDS))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def _words(command: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise Refused(f"--ssh {visible(command)}: {error}; quote it as for a shell") from None
    if not words:
        raise Refused("--ssh names no program; write --ssh ssh for the one on PATH")
    return words


def check_ssh(command: str) -> None:
    """Raises Refused when `--ssh COMMAND` cannot be run at all."""
    name = _words(command)[0]
    if shutil.which(name) is None:
        there = Path(name).exists() if "/" in name else False
        raise Refused(f"--ssh {visible(command)}: {f'{name} cannot be executed' if there else f'there is no program {name}'}")


def ssh_command(command: str, address: str) -> list[str]:
    """The argument list of `--ssh COMMAND` for one host: as for rsync's -e the words of COMMAND, the host, one command. Raises Refused."""
    return [*ssh_words(command), *host_words(command, address), bootstrap.remote_command()]


def host_words(command: str, address: str) -> list[str]:
    """The host as the program takes it, never as an option: `-oProxyCommand=…` would run what it says. Raises Refused."""
    if address.startswith("-"):
        raise Refused(f"{address} is no name of a host: names that begin with - are options of the programs that reach hosts")
    return ["--", address] if _is_openssh(_words(command)) else [address]


def ssh_words(command: str) -> list[str]:
    """What comes before the host. OpenSSH is told to ask nothing: it would ask the terminal of whoever started the run. Raises Refused."""
    words = _words(command)
    if _is_openssh(words):
        words += ["-o", "BatchMode=yes", "-T"]
    return words


def _is_openssh(words: list[str]) -> bool:
    return os.path.basename(words[0]) == "ssh"  # noqa: PTH119 - a word of a command line
