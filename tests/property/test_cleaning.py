"""Whatever --clean removes exists elsewhere at that moment, verified: random directories, stores, changes, kills and modes."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from taskrun.driver import cleaning
from taskrun.driver.before import Before
from taskrun.driver.deliveries import Span
from taskrun.driver.leftovers import tidy
from taskrun.driver.places import new_places
from taskrun.staging.local import LocalStore
from taskrun.staging.store import Entry, Listing, Missing
from taskrun.staging.transfers import Delivery

NAMES = ("a", "b", "sub/a", "sub/c.gpg", "deep/er/d")
CONTENTS = (b"one", b"two", b"three")
#: Where outputs go and inputs come from: elsewhere, this directory by another name, a directory in it, other names in it.
STORES = ("sftp://far/", "sftp://here/", "sftp://within/", "sftp://veil/", "sftp://mute/")


class Killed(BaseException):
    """The driver has been killed."""


class Remote(LocalStore):
    """A server's view of a directory of this machine. `veiled`: it stores under other names; `mute`: it knows no checksums."""

    def __init__(self, folder: Path, *, veiled: bool = False, mute: bool = False) -> None:
        super().__init__(folder, "tag")
        self.veiled = veiled
        self.mute = mute

    def path(self, name: str) -> Path:
        name = name.lstrip("/")
        return self._folder / (hashlib.md5(name.encode(), usedforsecurity=False).hexdigest() if self.veiled else name)

    def stat(self, name: str) -> Entry | None:
        try:
            found = self.path(name).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return Entry(name, found.st_size, f"~{found.st_size}-{int(found.st_mtime)}")

    def digest(self, entry: Entry, algorithm: str) -> str | None:
        if self.mute:
            return None
        try:
            return hashlib.new(algorithm, self.path(entry.name).read_bytes(), usedforsecurity=False).hexdigest()
        except FileNotFoundError as error:
            raise Missing(entry.name) from error


class Machine(RuleBasedStateMachine):
    """One working directory, its stores, and what was moved between them."""

    @initialize(before=st.sets(st.sampled_from(NAMES)))
    def begin(self, before: set[str]) -> None:
        self.top = Path(tempfile.mkdtemp(prefix="cleaning-"))
        self.work = self.top / "work"
        self.far = self.top / "far"
        self.mute = self.top / "mute"
        for folder in (self.work, self.far, self.mute, self.work / "enc"):
            folder.mkdir()
        self.places = new_places(self.work, "tag", 2, "", lambda _: None)
        self.remotes = {
            "sftp://far/": Remote(self.far),
            "sftp://here/": Remote(self.work),
            "sftp://within/": Remote(self.work / "enc"),
            "sftp://veil/": Remote(self.work / "enc", veiled=True),
            "sftp://mute/": Remote(self.mute, mute=True),
        }
        for place, remote in self.remotes.items():
            self.places.stores._open["sftp", place.removeprefix("sftp://").rstrip("/")] = remote
        self.local = LocalStore(self.work, "tag")
        self.inputs: dict[str, Delivery] = {}
        self.outputs: list[Delivery] = []
        self.started = time.time()
        self.mine = {name: self.write(self.work / name, b"mine") for name in before}
        self.was_there = Before(self.top / "run_before.jsonl", [])
        self.was_there.write("", str(self.work), self.local.walk("", Listing()))
        self.held: list[Any] = []

    def teardown(self) -> None:
        for file in getattr(self, "held", []):
            file.kill()
            file.wait()
        if hasattr(self, "top"):
            shutil.rmtree(self.top)

    @staticmethod
    def write(path: Path, content: bytes) -> bytes:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return content

    @rule(name=st.sampled_from(NAMES), content=st.sampled_from(CONTENTS))
    def make(self, name: str, content: bytes) -> None:
        """A task writes a file, or the person edits one that was there."""
        self.write(self.work / name, content)
        if name in self.mine:
            self.mine[name] = content

    @rule(name=st.sampled_from(NAMES), place=st.sampled_from(STORES), to=st.sampled_from(NAMES))
    def deliver(self, name: str, place: str, to: str) -> None:
        """An output goes to a store, as a transfer records it."""
        entry = self.local.stat(name)
        remote = self.remotes[place]
        if entry is None or (target := remote.path(to)) == self.work / name:
            return
        self.mine.pop(name, None)  # an output from now on, and safe elsewhere if it goes
        replaced = target.exists()
        content = self.write(target, (self.work / name).read_bytes())
        if str(target).startswith(str(self.work)) and not remote.veiled:
            self.mine.pop(str(target.relative_to(self.work)), None)
        self.outputs = [each for each in self.outputs if each.dest != f"{place}{to}"]
        self.outputs.append(self.delivery(name, f"{place}{to}", content, entry.version, "", "?" if replaced else ""))

    @rule(name=st.sampled_from(NAMES), place=st.sampled_from(STORES), to=st.sampled_from(NAMES))
    def fetch(self, name: str, place: str, to: str) -> None:
        """An input comes from a store."""
        source = self.remotes[place].path(name)
        if not source.is_file() or source == self.work / to:
            return
        replaced = (self.work / to).exists()
        content = self.write(self.work / to, source.read_bytes())
        self.mine.pop(to, None)
        entry = self.local.stat(to)
        assert entry is not None
        came = self.delivery(f"{place}{name}", to, content, "", entry.version, "?" if replaced else "")
        self.inputs[to] = came

    @staticmethod
    def delivery(source: str, dest: str, content: bytes, source_version: str, dest_version: str, replaced: str) -> Delivery:
        sha256 = hashlib.sha256(content).hexdigest()
        return Delivery(
            source, dest, len(content), sha256, len(content), sha256, source_version, dest_version, "sha256", "moved", (), None, 0.0, 1,
            replaced=replaced,
        )  # fmt: skip

    @rule(place=st.sampled_from(STORES), name=st.sampled_from(NAMES), content=st.sampled_from((b"", *CONTENTS)))
    def spoil(self, place: str, name: str, content: bytes) -> None:
        """Somebody removes or replaces a file of a store."""
        path = self.remotes[place].path(name)
        if path.is_file() and not str(path).startswith(str(self.work)):
            path.write_bytes(content) if content else path.unlink()

    @rule(mode=st.sampled_from(("output", "encrypted", "all")), kill=st.integers(0, 40))
    def clean(self, mode: Any, kill: int) -> None:
        """`kill`: the number of the file operation in which the driver is killed; then the next run tidies up."""
        before = self.contents(self.work)
        elsewhere = self.contents(self.far), self.contents(self.mute)
        scope = cleaning.Scope(
            mode, [Span(self.started - 1, time.time() + 60, str(self.top / "run"))], None, list(self.inputs.values()), self.outputs,
            before=self.was_there,
        )  # fmt: skip
        removals = cleaning.plans(scope, self.places, lambda *_: None)
        left = [kill]

        def counted(name: str) -> Any:
            real = getattr(LocalStore, name)

            def call(store: LocalStore, *arguments: str) -> Any:
                left[0] -= 1
                if left[0] == 0:
                    raise Killed
                return real(store, *arguments)

            return call

        for removing in removals:
            for name in ("rename", "remove", "remove_folder"):
                setattr(removing.store, name, counted(name).__get__(removing.store))
        try:
            assert cleaning.clean(scope, self.places, removals, lambda *_: None, lambda: False)
        except Killed:
            pass
        finally:
            for removing in removals:
                for name in ("rename", "remove", "remove_folder"):
                    delattr(removing.store, name)
        tidy(self.local, "", ["tag"], Listing())
        after = self.contents(self.work)
        assert elsewhere == (self.contents(self.far), self.contents(self.mute))
        assert not set(after) - set(before)
        assert all(after[name] == before[name] for name in after)
        self.judge({name: before[name] for name in before if name not in after}, after)

    def judge(self, gone: dict[str, bytes], after: dict[str, bytes]) -> None:
        """Each file that has gone is somewhere else, or was only made by the run and is no copy of anything."""
        kept = {*after.values(), *self.contents(self.far).values(), *self.contents(self.mute).values()}
        for name, content in gone.items():
            assert name not in self.mine
            if name in self.inputs or any(each.source == name for each in self.outputs):
                assert content in kept, f"{name} was the only copy"
        for each in self.outputs:  # outputs at their destination stay, wherever that is
            place, _, to = each.dest.partition("://")[2].partition("/")
            path = self.remotes[f"sftp://{place}/"].path(to)
            if str(path).startswith(str(self.work)):
                assert str(path.relative_to(self.work)) not in gone

    @staticmethod
    def contents(folder: Path) -> dict[str, bytes]:
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    @invariant()
    def what_was_there_stays(self) -> None:
        for name, content in getattr(self, "mine", {}).items():
            assert (self.work / name).read_bytes() == content


Machine.TestCase.settings = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "60")), stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
)
TestCleaning = Machine.TestCase
