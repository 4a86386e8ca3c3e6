"""What the atheris_*.py scripts share: `python tests/fuzz/atheris_NAME.py [-runs=1000000] [CORPUS]`. Needs `pip install atheris`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import mkdtemp

import atheris

RUNS = 1_000_000


def run(target: Callable[[bytes, int], object], seeds: Iterable[bytes]) -> None:
    """`target` gets bytes and the size of the pieces they come in. Ends with atheris' own exit code: not 0 if something was found."""
    corpus = Path(mkdtemp(prefix="atheris"))
    for number, seed in enumerate(seeds):
        (corpus / str(number)).write_bytes(b"\7" + seed)
    print(f"the corpus grows in {corpus}", file=sys.stderr)

    def one(data: bytes) -> None:
        if data:
            target(data[1:], data[0] + 1)

    flags = [] if any(word.startswith("-runs=") for word in sys.argv) else [f"-runs={RUNS}"]
    atheris.Setup([*sys.argv, *flags, "-timeout=10", str(corpus)], one)
    atheris.Fuzz()
