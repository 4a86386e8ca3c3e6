"""Nodes that have nothing more to do are given back while others work: one command for all that ended within ten seconds."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

#: What disBatch does: the job keeps the nodes that work, and the driver's own.
SLURM_COMMAND = 'scontrol update JobId="$SLURM_JOBID" NodeList="${DRIVER_NODE:+$DRIVER_NODE,}$ACTIVE"'
COLLECT_SECONDS = 10.0  # without another node, after which those that ended are given back
COMMAND_SECONDS = 120.0  # for one try
CLOSE_SECONDS = 2.0  # for what still runs when the run is over
PAUSES = (2.0, 5.0, 10.0, 20.0)  # seconds between tries of SLURM's command: a busy controller takes it the next time


class Retirement:
    """The nodes of one context. `say(level, text)` may be called from another thread."""

    def __init__(
        self, nodes: list[str], driver_node: str, command: str, environ: Mapping[str, str], say: Callable[[str, str], None]
    ) -> None:
        """`driver_node`: the node of the context on which this process runs, '' if it runs elsewhere. `command`: '' gives nothing back."""
        self.nodes = nodes
        self.driver_node = driver_node
        self.command = command
        self.environ = environ
        self.say = say
        self.now = time.monotonic
        self.folder = Path()  # where the command runs
        self.active = list(nodes)
        self._ended: list[tuple[str, int]] = []  # not given back yet
        self._due = 0.0
        self._running: threading.Thread | None = None
        self._command: subprocess.Popen[bytes] | None = None
        self._over = threading.Event()

    def close(self) -> None:
        """The run is over: nothing of a command that hangs stays."""
        self._over.set()
        if self._running is not None:
            self._running.join(CLOSE_SECONDS)
            if self._running.is_alive() and self._command is not None:
                end(self._command)

    def ended(self, node: str, code: int, *, lost: bool = False) -> None:
        """The node's engine is gone, its srun ended with `code`. `lost`: the node is, too, and cannot be given back."""
        if node in self.active:
            self.active.remove(node)
            if not lost:
                self._ended.append((node, code))
                self._due = self.now() + COLLECT_SECONDS

    def came_back(self, node: str) -> None:
        """Another engine is there in the place of one that was lost."""
        if node in self.nodes and node not in self.active:
            self.active.append(node)
            self._ended = [each for each in self._ended if each[0] != node]

    def step(self) -> None:
        """Now and then. Gives nothing back when no node is at work any more: then the job ends."""
        if not self.command or not self._ended or self.now() < self._due or not self.active:
            return
        if self._running is not None and self._running.is_alive():
            return
        ended, self._ended = self._ended, []
        env = {**self.environ, **self.variables(ended)}
        self._running = threading.Thread(target=self._run, args=(env,), name="retire", daemon=True)
        self._running.start()

    def variables(self, ended: list[tuple[str, int]]) -> dict[str, str]:
        """What the command is told, as by disBatch. NODE is the first of NODES."""
        found = {
            "NODE": ended[0][0],
            "NODES": ",".join(node for node, _ in ended),
            "RETCODES": ",".join(str(code) for _, code in ended),
            "ACTIVE": ",".join(self.active),
            "RETIRED": ",".join(node for node in self.nodes if node not in self.active),
        }
        if self.driver_node and self.driver_node not in self.active:
            found["DRIVER_NODE"] = self.driver_node
        return found

    def _run(self, env: dict[str, str]) -> None:
        """In a thread of its own: scontrol may wait for a busy controller."""
        pauses = PAUSES if self.command == SLURM_COMMAND else ()
        for pause in (*pauses, None):
            problem = self._attempt(env)
            if not problem:
                self.say("notice", f"given back: {env['NODES']}; at work: {env['ACTIVE']}")
                return
            if pause is None:
                self.say("warning", f"{env['NODES']} could not be given back: {problem}")
            elif self._over.wait(pause):
                return

    def _attempt(self, env: Mapping[str, str]) -> str:
        """Run it with /bin/sh; '' or what went wrong."""
        there = self._scripts()
        try:
            return self._carry_out(env)
        finally:
            for path in self._scripts() - there:
                with contextlib.suppress(OSError):
                    path.unlink()

    def _scripts(self) -> set[Path]:
        """Return the shell scripts that scontrol leaves where it has made this job smaller; they set variables of an interactive shell."""
        job = self.environ.get("SLURM_JOBID", "")
        paths = [self.folder / f"slurm_job_{job}_resize.{kind}" for kind in ("sh", "csh")] if job.isdecimal() else []
        found = set()
        for path in paths:
            with contextlib.suppress(OSError):
                if stat.S_ISREG(path.lstat().st_mode):
                    found.add(path)
        return found

    def _carry_out(self, env: Mapping[str, str]) -> str:
        try:
            self._command = command = subprocess.Popen(
                ["/bin/sh", "-c", self.command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=env,
                start_new_session=True,
            )
        except OSError as error:
            return os.strerror(error.errno or 0)
        try:
            _, errors = command.communicate(timeout=COMMAND_SECONDS)
        except subprocess.TimeoutExpired:
            end(command)
            return f"no end within {COMMAND_SECONDS:.0f} s"
        if command.returncode == 0:
            return ""
        said = [line for line in errors.decode("utf-8", "replace").splitlines() if line.strip()]
        return said[-1] if said else f"exit {command.returncode}"


def end(command: subprocess.Popen[bytes]) -> None:
    """It, and what it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(command.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        command.wait(1.0)
