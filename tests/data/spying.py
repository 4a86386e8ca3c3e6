"""A host whose Python notes all that it is given: arguments, environment, standard input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ssh_hosts import SshHosts

#: Called as `python3` by whoever comes in by ssh.
_PYTHON = """\
#!/bin/sh
note=/root/spy/$$
printf '%s\\n' "$@" > $note.arguments
env > $note.environment
tee $note.input | /usr/bin/python3 "$@"
"""


class Spy:
    """On host K. Logins there are with bash, which reads .bashrc when it comes by ssh."""

    def __init__(self, hosts: SshHosts, k: int) -> None:
        self._folder = hosts.path(k, "/root/spy")
        (self._folder / "bin").mkdir(parents=True)
        program = self._folder / "bin" / "python3"
        program.write_text(_PYTHON)
        program.chmod(0o755)
        hosts.path(k, "/root/.bashrc").write_text("PATH=/root/spy/bin:$PATH\n")

    def noted(self, kind: str = "*") -> list[Path]:
        return sorted(self._folder.glob(f"*.{kind}"))

    def everything(self) -> bytes:
        """All that was noted."""
        return b"\0".join(path.read_bytes() for path in self.noted())

    def messages(self) -> list[dict[str, Any]]:
        """Return what the driver has sent to programs that move files, in order for each of them."""
        found = [data for path in self.noted("input") if (data := path.read_bytes()).startswith(b"{")]
        return [json.loads(line) for data in found for line in data.split(b"\n") if line]
