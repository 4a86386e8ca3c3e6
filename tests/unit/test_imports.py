"""The import rule: which part of taskrun may know which. (Leftover words and print are ruff's: FIX, T10, T20 in pyproject.toml.)"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from harness import ROOT

PACKAGE = ROOT / "taskrun"

#: From the top down. A part imports from the tiers below its own and from itself, never from its neighbours in a tier.
TIERS = (
    ("__main__",),
    ("cli",),
    ("driver",),  # the only place that knows everybody: wiring
    ("options",),  # the option table
    ("cloud", "encryption", "engines", "observers", "reports", "staging"),
    ("agent",),  # imports nothing of ours itself, see below
    ("scheduling",),
    ("planning",),
    ("language", "status"),
    ("job", "threads"),
    ("__init__", "errors", "model"),
    ("sizes", "usage", "visible"),
)

#: Who alone may import a library. A library that is not here is not one of ours.
OWNERS = {
    "boto3": "staging/",
    "botocore": "staging/",
    "cryptography": "engines/tls",
    "gnupg": "encryption/",
    "lark": "language/",
    "paramiko": "engines/ssh",
    "psutil": "engines/",
    "rich": "observers/",
}

#: What text, time and processes are made of: not for the parts that are functions of their arguments.
OUTSIDE = {
    "asyncio", "concurrent", "ctypes", "fcntl", "glob", "io", "mmap", "multiprocessing", "os", "posix", "queue", "random", "resource",
    "select", "selectors", "shutil", "signal", "socket", "subprocess", "sys", "tempfile", "threading", "time", "uuid",
}  # fmt: skip
PURE = ("errors", "language", "model", "planning", "scheduling", "sizes", "usage", "visible")
#: And single files of other parts.
PURE_FILES = {
    "encryption/rules.py",
    "staging/checksum_file.py",
    "staging/cleaning.py",
    "staging/locations.py",
    "staging/settling.py",
    "staging/transfers.py",
}
#: The exceptions: (file, module), each with its reason.
ALLOWED = {
    ("language/source.py", "os"),  # the one module that reads task files
}

#: In the standard library only since after Python 3.6, the oldest that the agent meets on a host.
TOO_NEW = {"contextvars", "dataclasses", "graphlib", "tomllib", "zoneinfo", "importlib.metadata", "importlib.resources"}


class Import(NamedTuple):
    file: str  # inside taskrun/
    line: int
    module: str

    @property
    def part(self) -> str:
        """`language` for language/source.py, `model` for model.py."""
        return self.file.partition("/")[0].removesuffix(".py")

    def __str__(self) -> str:
        return f"taskrun/{self.file}:{self.line} imports {self.module}"


def imports() -> Iterator[Import]:
    """Every import of the package, also those inside functions and for type checkers only."""
    for path in sorted(PACKAGE.rglob("*.py")):
        file = path.relative_to(PACKAGE).as_posix()
        for node in ast.walk(ast.parse(path.read_bytes(), file)):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                here = ["taskrun", *Path(file).parts[: -node.level]] if node.level else []
                module = ".".join([*here, *([node.module] if node.module else [])])
                # `from taskrun import model` imports a part, `from taskrun.model import Task` one too
                names = [f"taskrun.{alias.name}" for alias in node.names] if module == "taskrun" else [module]
            else:
                continue
            for name in names:
                yield Import(file, node.lineno, name)


IMPORTS = tuple(imports())


def part_of(module: str) -> str | None:
    """Which part of taskrun a module is; None for what is not ours. `taskrun.__version__` is the package itself."""
    top, _, rest = module.partition(".")
    if top != "taskrun":
        return None
    part = rest.partition(".")[0]
    return part if (PACKAGE / part).is_dir() or (PACKAGE / f"{part}.py").is_file() else "__init__"


def test_every_part_has_its_tier() -> None:
    parts = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path.is_dir() and any(path.glob("*.py")))}
    assert parts <= {part for tier in TIERS for part in tier}


def test_imports_point_down() -> None:
    rank = {part: number for number, tier in enumerate(TIERS) for part in tier}
    wrong = [
        str(found)
        for found in IMPORTS
        if (part := part_of(found.module)) is not None and part != found.part and rank[part] <= rank[found.part]
    ]
    assert not wrong


def test_the_agent_is_an_island() -> None:
    """It is shipped to hosts where nothing else of ours is."""
    siblings = {path.stem for path in (PACKAGE / "agent").glob("*.py")}
    wrong = [
        str(found)
        for found in IMPORTS
        if found.part == "agent"
        and part_of(found.module) != "agent"
        and found.module not in siblings  # a slot lies beside its helpers, without a package
        and (found.module in TOO_NEW or found.module.partition(".")[0] not in sys.stdlib_module_names)
    ]
    assert not wrong


@pytest.mark.parametrize("path", [pytest.param(path, id=path.name) for path in sorted((PACKAGE / "agent").glob("*.py"))])
def test_the_agent_is_written_for_python_3_6(path: Path) -> None:
    tree = ast.parse(path.read_bytes(), path.name, feature_version=(3, 6))
    future = [
        alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "__future__" for alias in node.names
    ]
    assert "annotations" not in future  # 3.7


def test_each_library_has_one_owner() -> None:
    wrong = []
    for found in IMPORTS:
        library = found.module.partition(".")[0]
        siblings = found.part == "agent" and (PACKAGE / "agent" / f"{library}.py").is_file()
        if library == "taskrun" or library in sys.stdlib_module_names or siblings:
            continue
        owner = OWNERS.get(library)
        if owner is None or not found.file.startswith(owner):
            wrong.append(f"{found}: {f'only {owner} may' if owner else 'nobody may'}")
    assert not wrong


def test_the_pure_parts_know_no_clock_file_thread_or_process() -> None:
    wrong = [
        str(found)
        for found in IMPORTS
        if (found.part in PURE or found.file in PURE_FILES)
        and (top := found.module.partition(".")[0]) in OUTSIDE
        and (found.file, top) not in ALLOWED
    ]
    assert not wrong
