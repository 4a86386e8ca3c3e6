"""The data of one run: what its lines ask for is checked before the first task, begun with it, and brought to its end with the run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskrun.driver.loop import Signals
from taskrun.driver.outputs import Outputs
from taskrun.driver.places import new_places
from taskrun.driver.staging import Stager
from taskrun.errors import ExitCode
from taskrun.model import Planned, Staging, Supplied
from taskrun.options import Options
from taskrun.planning.expand import Expander
from taskrun.staging import manifest
from taskrun.staging.transfers import Delivery, delivery_from_json
from taskrun.status import names

if TYPE_CHECKING:
    import selectors

    from taskrun.driver.porter import Porter
    from taskrun.language.source import Scan

FAILURES_SHOWN = 5


def stagings_of(scan: Scan) -> list[Staging]:
    """Every STAGE line of a scanned file with the encryption of its place, in order."""
    expander = Expander()
    found: list[Staging] = []
    for item in scan.stages:
        found += [value for value in expander.expand(item) if isinstance(value, Staging)]
        found += [each for each in expander.staging if each not in found]
    return sorted(found, key=lambda each: each.line)


def earlier_deliveries(statuses: Iterable[Path]) -> list[Delivery]:
    """What earlier runs have moved and verified, from their events files: the later one of a destination counts."""
    import json

    found: list[Delivery] = []
    for status in statuses:
        path = names.with_suffix(names.prefix_of(status), names.EVENTS)
        try:
            with path.open("rb") as file:
                for line in file:
                    if b'"kind":"transfer"' in line and b'"cause":"ok"' in line:
                        try:
                            value: dict[str, Any] = json.loads(line)
                        except ValueError:
                            continue
                        fields = {name: value[name] for name in Delivery._fields if name in value}
                        delivery = delivery_from_json(fields)
                        if delivery is not None:
                            found.append(delivery)
        except OSError:
            continue
    return found


class Data:
    """Stager and outputs of one run."""

    def __init__(
        self,
        options: Options,
        cwd: Path,
        tag: str,
        selector: selectors.BaseSelector,
        note: Callable[[str, str], None],
        post_transfer: Callable[..., None],
        variables: dict[str, str],
        known: list[Delivery],
        porter: Porter,
    ) -> None:
        """Raises Refused."""
        places = new_places(cwd, tag, options.transfers, options.rclone_config or "", lambda text: note("warning", text))
        self.stager = Stager(
            places,
            selector,
            note,
            post_transfer,
            variables,
            transfers=options.transfers,
            workfactor=options.workfactor,
            passphrase_file=Path(options.passphrase_file) if options.passphrase_file else None,
            known=known,
        )
        self.outputs = Outputs(self.stager, options.settle)
        self.porter = porter
        self.note = note
        self._begun: set[int] = set()

    def begin(self, stagings: list[Staging]) -> None:
        """Check all, then begin. Raises Refused before anything was moved."""
        self.stager.check(stagings)
        self.stager.begin(stagings)
        self._begun = {staging.line for staging in stagings}

    def admit(self, items: list[Supplied]) -> list[Planned]:
        """What of the plan may be handed on. Raises Refused for a line of a stream that cannot be."""
        for item in items:
            if isinstance(item, Staging) and item.line not in self._begun:
                self._begun.add(item.line)
                self.stager.check([item])
        return self.stager.admit(items)

    def waiting(self) -> str:
        """What the view says while tasks wait for data, '' when they do not."""
        tally = self.stager.tally
        if not self.stager.waits:
            return ""
        rate, left = tally.rate(), tally.left()
        text = f"fetching data: {_bytes(tally.done_bytes)} of {_bytes(tally.bytes)}"
        return text + (f", {_bytes(int(rate))}/s" if rate else "") + (f", about {left:.0f} s to go" if left else "")

    def finish(self, code: ExitCode, signals: Signals, *, hard: bool) -> ExitCode:
        """The end of the run, while engines can still be reached: what is left is delivered, and waited for unless it was told to end."""
        if not hard:
            self.outputs.last()
            for member in self.porter.leavers:
                self.outputs.last(member.name)
            self.stager.wait(lambda: not signals.events())
        for member in self.porter.leavers:
            member.agent.let_go()  # type: ignore[attr-defined]  # places.admit has looked
        failed = list(self.outputs.failed.items())
        for source, why in failed[:FAILURES_SHOWN]:
            self.note("error", f"{source} was not delivered: {why}")
        if len(failed) > FAILURES_SHOWN:
            self.note("error", f"and {len(failed) - FAILURES_SHOWN} more were not delivered")
        left = self.stager.busy
        self.stager.close()
        return ExitCode.STOPPED if (failed or left) and code in (ExitCode.OK, ExitCode.TASKS_FAILED) else code

    def write_manifest(self, prefix: Path, *, run_id: str, host: str, started: float, exit_code: int, counts: dict[str, int]) -> None:
        """Raises RecordsFailed."""
        account = manifest.Account(
            run_id=run_id,
            job=prefix.name,
            host=host,
            started=started,
            ended=time.time(),
            exit_code=exit_code,
            counts=counts,
            resources={"cpu_seconds": round(self.porter.cpu_seconds, 3), "peak_memory_bytes": self.porter.peak_memory},
            inputs=manifest.latest(self.stager.inputs),
            outputs=manifest.latest(self.stager.outputs),
        )
        manifest.write(names.with_suffix(prefix, manifest.SUFFIX), account)


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
