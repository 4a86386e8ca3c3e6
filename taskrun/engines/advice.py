"""Commands that a person can type to see for himself: the host as it was given, by the program that was given. Pure."""

from __future__ import annotations

import shlex

SSH = "ssh"


def login(address: str, command: str = "true", *, ssh: str = "", port: int = 0) -> str:
    """The command line that runs `command` on a host ('' for a login). `ssh`: as --ssh; `port`: where it is not the configuration's."""
    return " ".join(word for word in (ssh or SSH, f"-p {port}" if port else "", shlex.quote(address), command) if word)
