"""A context that attaches: starts its agents where this process runs, and relays their links to the run; and sessions for data."""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Any

from taskrun import job, threads
from taskrun.driver import held
from taskrun.driver.absence import Absence
from taskrun.driver.caller import Caller
from taskrun.driver.contexts import Engines, carried_environment
from taskrun.driver.job_end import JobEnd
from taskrun.driver.loop import Signals
from taskrun.driver.mailbox import Mailbox
from taskrun.driver.member import REACHES, Reaching
from taskrun.driver.serving import Serving
from taskrun.engines import attach_frames as at
from taskrun.engines.command import last_words
from taskrun.engines.link import Agent, end_agents
from taskrun.engines.local import LocalAgent
from taskrun.engines.request import EngineRequest
from taskrun.engines.tls import Broken
from taskrun.errors import ExitCode, Refused, told
from taskrun.options import Options
from taskrun.scheduling import messages as m

END_SECONDS = 6.0  # for an agent to end what it runs when its link is closed
HOSTS_SHOWN = 8
ORDERS = (at.Start, at.Serve, at.Kill, at.Over, at.Refusal)  # what a run says to a context
LOOK = 0.2  # seconds between two looks at agents that end


class Attaching(Caller):
    """One context, from its coming to its going. Raises Refused when it cannot join."""

    def __init__(self, name: str, options: Options) -> None:
        self.agents: dict[int, Agent] = {}
        self.ending: dict[int, float] = {}  # channel whose link is closed -> when its agent is killed
        self.options = options
        self.serving: Serving | None = None
        self.context = ""
        self.held: socket.socket | None = None  # a name on this host, as long as something of the run may live here
        super().__init__(name, "join", options.use_address)
        for inherited in ("cpus_per_task", "tasks_per_node"):
            if inherited not in options.origins:
                options.set(inherited, getattr(self.proven, inherited), "inherited")
        self.mail = Mailbox(self.selector)
        self.logs: dict[int, IO[bytes]] = {}  # without a name: nothing stays, however this ends
        self.code = ExitCode.OK
        self.over = False

    def say_to_person(self, text: str) -> None:
        if not self.options.quiet:
            sys.stderr.write(told(text) + "\n")

    def go(self, engines: Engines) -> ExitCode:
        """Until the context has nothing more to do, or the run is over."""
        self.engines = engines
        self.requests = {each.address or each.host: each for each in engines.requests}
        self.serving = Serving(self.requests, engines.steps, self.options.ssh or "", self.say_to_person)
        signals = None
        try:
            self.held = held.hold_beside(self.run_id)
            joined = self.ask(self._join(), at.Joined, *ORDERS)
            assert isinstance(joined, at.Joined)
            self.context = joined.context
            signals = Signals(self.selector)
            slots = sum(each.slots for each in engines.requests)
            hosts = [each.host for each in engines.requests]
            shown = ", ".join([*hosts[:HOSTS_SHOWN], "…"][: len(hosts)])
            self.say_to_person(f"attached to run {self.run_id} as context {self.context}: {slots} slot{'s'[: slots != 1]} on {shown}")
            self._serve(signals)
        finally:
            self._end_all()
            if signals is not None:
                signals.close()
        return self.code

    def _join(self) -> at.Join:
        options, steps = self.options, self.engines.steps
        names = options.env_resource or self.proven.variables
        share = {
            "gpus": "all" if options.gpu else "",
            "variables": [name for item in names for name in item.split(",") if name],
        }
        offers = []
        for each in self.engines.requests:
            shared, env = share, {}
            if steps is not None:
                from taskrun.engines import slurm

                shared, env = slurm.share_of(each, steps, share), slurm.task_environment(each, steps)
            offers.append(at.Offer(each.address or each.host, each.host, each.cores, each.slots, each.cores_per_task, shared, env))
        ends_in = max(0.0, steps.end - time.time()) if steps is not None and steps.end is not None else -1.0
        env = carried_environment(options.env, os.environ)
        return at.Join(
            options.label or (self.engines.label if steps is not None else ""),
            max(0, options.task_limit),
            ends_in,
            offers,
            options.workdir or "",
            env,
            os.getuid(),
            held.space(),
        )

    # the loop

    def _serve(self, signals: Signals) -> None:
        silence = self.proven.silence
        steps = self.engines.steps
        job_end = None if steps is None else JobEnd(steps.job, steps.end, lambda: None, self._job_ends)
        absence = Absence()
        while not self.over:
            for message in self.answers():
                self._act(message)
            for signalled in signals.events():
                if isinstance(signalled, m.Told):
                    self._told(signalled.how, signalled.why)
                else:
                    self._suspended(signalled.on)
            self._look_at_agents()
            if job_end is not None:
                job_end.step()
            if self.broken is not None:
                self.say_to_person(f"the connection to the run broke: {self.broken}")
                self.code = ExitCode.STOPPED
                break
            if not self.over:
                seconds = LOOK if self.ending else 1.0
                absence.waits(time.monotonic() + seconds)
                self.wait(seconds)
                missed = absence.look(time.monotonic())
                if missed is not None:
                    self._was_absent(missed.seconds)
                self.mux.beat(min(15.0, max(0.2, silence / 8.0)), silence)

    def _was_absent(self, seconds: float) -> None:
        """Shift the silence of the run: this process did not run, and reads first what has come meanwhile."""
        self.mux.absent(seconds)
        self.ending = {channel: due + seconds if due else due for channel, due in self.ending.items()}

    def _job_ends(self, end: float) -> None:
        self.say_to_person(f"SLURM has changed the time of this job: it ends at {time.strftime('%F %T', time.localtime(end))}")
        self.say(at.Ends(max(0.0, end - time.time())))

    def _act(self, message: at.Message) -> None:
        match message:
            case at.Start(channel, address):
                self._start(channel, address)
            case at.Kill(channel):
                if channel in self.agents:
                    self.agents[channel].kill()
                    self.mux.close_channel(channel)
                    self.ending.setdefault(channel, 0.0)
            case at.Over(why, code):
                self.over = True
                if self.code == ExitCode.OK:
                    self.code = ExitCode(code) if code in set(ExitCode) else ExitCode.STOPPED
                self.say_to_person(f"context {self.context} is over: {why}")
            case at.Refusal(why):
                raise Refused(why)

    def _start(self, channel: int, address: str) -> None:
        try:
            self.logs[channel] = tempfile.TemporaryFile("a+b")
            agent = self._reach(self.requests[address], self._log(channel), self.logs[channel].fileno())
        except (OSError, KeyError) as error:
            self.say(
                at.Failed(channel, f"its agent cannot be started: {error}"[:4000], isinstance(error, FileNotFoundError | KeyError), False)
            )
            self.say(at.Ended(channel))
            if channel in self.logs:
                self.logs.pop(channel).close()
            return
        self.agents[channel] = agent
        self.mux.open(channel, agent.link)

    def _reach(self, request: EngineRequest, log: Path, log_fd: int) -> Agent:
        """Raises OSError."""
        assert self.held is not None
        if request.reach == "local":
            return LocalAgent(self.held.fileno(), log_fd, shipped=True)
        note = self.say_to_person
        return REACHES[request.reach](request, Reaching(self.held.fileno(), self.options.ssh or "", log, log_fd, note, self.engines.steps))

    def _log(self, channel: int) -> Path:
        """What an agent says on standard error, as a file that can be opened."""
        return Path(f"/proc/self/fd/{self.logs[channel].fileno()}")

    def _eof(self, channel: int) -> bool:
        """An agent or a session has ended its link: why is said before the run sees that."""
        ended = self._behind(channel)
        if ended.settled:
            self._failed(channel)
            return True

        def settle() -> None:
            ended.settle()
            self.mail.post(settled)

        def settled() -> None:
            if self._behind(channel) is ended:
                self._failed(channel)
                self.mux.close_channel(channel)

        threads.start_or_do(settle, f"end of channel {channel}")
        return False

    def _behind(self, channel: int) -> Any:
        return self.serving[channel] if self.serving is not None and channel in self.serving else self.agents.get(channel)

    def _failed(self, channel: int) -> None:
        if self._is_session(channel):
            self._session_over(channel)
            return
        agent = self.agents[channel]
        why = agent.failure or last_words(self._log(channel), 0)
        self.say(at.Failed(channel, why[-2000:], agent.permanent, agent.lives_on, agent.died))
        self._end(channel)

    def _end(self, channel: int) -> None:
        """The run has let go of it."""
        if self._is_session(channel):
            self._session_over(channel)
            return
        self.ending.setdefault(channel, time.monotonic() + END_SECONDS)

    def _control(self, frame: dict[str, Any]) -> None:
        """What is asked of a session comes right behind the wish for it: its channel is open by then."""
        super()._control(frame)
        if self._answers and isinstance(self._answers[-1], at.Serve):
            message = self._answers.pop()
            assert isinstance(message, at.Serve)
            assert self.serving is not None
            if message.channel in self.agents or message.channel in self.serving:
                raise Broken("it wants two things on one channel")
            self.mux.open(message.channel, self.serving.begin(*message))

    def _is_session(self, channel: int) -> bool:
        return self.serving is not None and channel in self.serving

    def _session_over(self, channel: int) -> None:
        assert self.serving is not None
        why, permanent = self.serving.end(channel)
        if why:
            self.say(at.Failed(channel, why[-2000:], permanent, lives_on=False))

    def _look_at_agents(self) -> None:
        for channel, due in list(self.ending.items()):
            agent = self.agents[channel]
            if not agent.ended() and time.monotonic() > due:
                agent.kill()
            if agent.ended():
                del self.ending[channel], self.agents[channel]
                self.logs.pop(channel).close()
                self.say(at.Ended(channel))

    def _told(self, how: str, why: str) -> None:
        """A signal: first they end what they run, then they are ended, then we go."""
        if how == "drain" and self.code == ExitCode.OK:
            self.say_to_person(f"{why}: context {self.context} ends what it runs and leaves; again to end that now")
            self.say(at.Detach("", now=False))
        elif self.code == ExitCode.OK:
            self.code = ExitCode.INTERRUPTED if why == signal.SIGINT.name else ExitCode.STOPPED
            self.say_to_person(f"{why}: context {self.context} gives back what it runs")
            self.say(at.Detach("", now=True))
        else:
            self.code = ExitCode.INTERRUPTED if why == signal.SIGINT.name else ExitCode.TERMINATED
            self.over = True

    def _suspended(self, on: bool) -> None:
        """Ctrl-Z: the shell may prompt, and this process goes on; or the person is back."""
        front = job.front
        if on:
            how, pid = ("", os.getpid()) if front is None else ("`fg` or ", front.pid)
            self.say_to_person(f"context {self.context} goes on working for the run; {how}`kill -CONT {pid}` brings this command back")
            if front is not None:
                front.may_stop()

    def _end_all(self) -> None:
        """Nothing of ours stays."""
        self.mux.close()
        if self.serving is not None:
            self.serving.close()
        end_agents(list(self.agents.values()), END_SECONDS)
        self.mail.close()
        if self.held is not None:
            self.held.close()
        self.selector.close()


def attach(name: str, options: Options, choose: Any) -> ExitCode:
    """Attach to a run with the engines that `choose` finds. Raises Refused."""
    attaching = Attaching(name, options)
    try:
        engines, warnings = choose(options)
    except BaseException:
        attaching._end_all()
        raise
    for warning in warnings:
        attaching.say_to_person(warning)
    return attaching.go(engines)
