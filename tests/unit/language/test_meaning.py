"""What each directive line means, and what is said of each wrong one."""

from __future__ import annotations

import pytest

from taskrun.language.grammar import meaning_of
from taskrun.language.items import Barrier, Encrypt, Foreach, Item, Lines, PerEngine, Prefix, Repeat, Stage, Suffix
from taskrun.language.reader import Reader

REPEAT_USAGE = "usage: #TASKRUN REPEAT count [start number] [step number] [command]"
BARRIER_USAGE = "usage: #TASKRUN BARRIER [CHECK] [key]"
PERENGINE_USAGE = "usage: #TASKRUN PERENGINE START [CHECK]|STOP command"
CHECK_HINT = "to check engines, write START CHECK in capitals, one blank between, in a line that does not begin with #DISBATCH"
NAMES = "PREFIX, SUFFIX, BARRIER, REPEAT, FOREACH, PERENGINE, STAGE-IN, STAGE-OUT, ENCRYPT, ALLOW"
THEIRS = NAMES.replace("FOREACH, ", "").replace(", ALLOW", "")
STAGE_IN_USAGE = "usage: #TASKRUN STAGE-IN [RUN|ENGINE|TASK] source [dest] [sha256=HEX]"
STAGE_OUT_USAGE = "usage: #TASKRUN STAGE-OUT [RUN|TASK] pattern dest"
ENCRYPT_USAGE = "usage: #TASKRUN ENCRYPT recipient[,recipient] [SIGN key], or #TASKRUN ENCRYPT OFF"
FOREACH_USAGE = "usage: #TASKRUN FOREACH glob [command]"


def one(line: bytes, ignore_unknown: bool = False) -> tuple[list[Item], Reader]:
    reader = Reader("tasks.txt", ignore_unknown=ignore_unknown)
    return reader.feed(line + b"\n") + reader.close(), reader


@pytest.mark.parametrize(
    ("line", "item"),
    [
        (b"PREFIX", Prefix(1, b"")),
        (b"PREFIX ", Prefix(1, b"")),
        (b"PREFIX  a b ", Prefix(1, b" a b ")),
        (b"PREFIX \t\xff\xe4", Prefix(1, b"\t\xff\xe4")),
        (b"SUFFIX", Suffix(1, b"")),
        (b"SUFFIX  > /dev/null", Suffix(1, b" > /dev/null")),
        (b"REPEAT 3", Repeat(1, 3, 0, 1, b"")),
        (b"REPEAT 3 ", Repeat(1, 3, 0, 1, b"")),
        (b"REPEAT 3\t\t", Repeat(1, 3, 0, 1, b"")),
        (b"REPEAT 3  ", Repeat(1, 3, 0, 1, b" ")),
        (b"REPEAT 0 true", Repeat(1, 0, 0, 1, b"true")),
        (b"REPEAT 007 x", Repeat(1, 7, 0, 1, b"x")),
        (b"REPEAT 1   three blanks  ", Repeat(1, 1, 0, 1, b"  three blanks  ")),
        (b"REPEAT 2 start 5 echo x", Repeat(1, 2, 5, 1, b"echo x")),
        (b"REPEAT 2 step 0 echo x", Repeat(1, 2, 0, 0, b"echo x")),
        (b"REPEAT 2  START \t 10 Step 5 echo x", Repeat(1, 2, 10, 5, b"echo x")),
        (b"REPEAT\t1\tstart\t4 cmd", Repeat(1, 1, 4, 1, b"cmd")),
        (b"REPEAT 2 start 4 step 3\tx", Repeat(1, 2, 4, 1, b"step 3\tx")),
        (b"REPEAT 2 start 5x", Repeat(1, 2, 0, 1, b"start 5x")),
        (b"REPEAT 2 start", Repeat(1, 2, 0, 1, b"start")),
        (b"REPEAT 2 starting 5", Repeat(1, 2, 0, 1, b"starting 5")),
        (b"REPEAT 9223372036854775807 x", Repeat(1, 2**63 - 1, 0, 1, b"x")),
        (b"REPEAT 2 #TASKRUN PREFIX x", Repeat(1, 2, 0, 1, b"#TASKRUN PREFIX x")),
        (b"PERENGINE START echo x", PerEngine(1, "START", b"echo x")),
        (b"PERENGINE STOP  echo x ", PerEngine(1, "STOP", b" echo x ")),
        (b"PERENGINE START ", PerEngine(1, "START", b"")),
        (b"PERENGINE START CHECKS x", PerEngine(1, "START", b"CHECKS x")),
    ],
)
def test_one_meaning_in_every_spelling(line: bytes, item: Item) -> None:
    name, blank, rest = line.partition(b" ") if b"\t" not in line[:7] else line.partition(b"\t")
    for sigil in (b"#TASKRUN ", b"#DISBATCH ", b"#"):
        assert one(sigil + line)[0] == [item]
    assert one(b"#TASKRUN " + name.lower() + blank + rest)[0] == [item]
    assert one(b"#TASKRUN " + name.title() + blank + rest)[0] == [item]


@pytest.mark.parametrize(
    ("line", "command"),
    [
        (b"PERENGINE START CHECK test -e /x", b"test -e /x"),
        (b"PERENGINE Start CHECK  x ", b" x "),
        (b"PERENGINE START CHECK ", b""),
    ],
)
def test_a_start_that_checks_its_engine(line: bytes, command: bytes) -> None:
    for sigil in (b"#TASKRUN ", b"#"):
        items, reader = one(sigil + line)
        assert items == [PerEngine(1, "START", command, check=True)]
        assert [each.message for each in reader.diagnostics] == ([] if command else ["START CHECK with a blank command checks nothing"])
    items, reader = one(b"#DISBATCH " + line)
    assert items == [PerEngine(1, "START", b"CHECK " + command)], "a program of that name, as with disBatch"
    assert [each.severity for each in reader.diagnostics] == ["warning"]


@pytest.mark.parametrize(
    ("rest", "glob", "command"),
    [
        (b"*.txt", b"*.txt", b""),
        (b"*.txt ", b"*.txt", b""),
        (b"*.txt\t ", b"*.txt", b""),
        (b"*.txt gzip {}", b"*.txt", b"gzip {}"),
        (b"*.txt   gzip ", b"*.txt", b"  gzip "),
        (b"'a b'/*.t\\ xt x", b"'a b'/*.t\\ xt", b"x"),
        (b'"a \\"b"c x', b'"a \\"b"c', b"x"),
        (b"'' x", b"''", b"x"),
        (b"\xff\xe4* \xff", b"\xff\xe4*", b"\xff"),
    ],
)
def test_foreach(rest: bytes, glob: bytes, command: bytes) -> None:
    for name in (b"FOREACH", b"foreach", b"ForEach"):
        line = b"#TASKRUN " + name + b" " + rest
        items, reader = one(line)
        assert (items, reader.diagnostics) == ([Foreach(1, glob, command, line)], [])
    assert one(b"#FOREACH " + rest)[0] == [], "a comment, as ever"


@pytest.mark.parametrize(
    ("line", "check", "key"),
    [
        (b"BARRIER", False, None),
        (b"BARRIER ", False, None),
        (b"BARRIER key", False, b"key"),
        (b"BARRIER two words", False, b"two words"),
        (b"BARRIER checkpoint", False, b"checkpoint"),
        (b"BARRIER CHECK", True, None),
        (b"BARRIER CHECK ", True, None),
        (b"BARRIER CHECK some key", True, b"some key"),
        (b"BARRIER CHECK  CHECK", True, b" CHECK"),
    ],
)
def test_barrier(line: bytes, check: bool, key: bytes | None) -> None:
    for sigil in (b"#TASKRUN ", b"#DISBATCH ", b"#"):
        items, reader = one(sigil + line)
        assert items == [Barrier(1, check, key, sigil + line)]
        assert reader.diagnostics == []
    lower = b"#DISBATCH " + line.replace(b"BARRIER", b"barrier")
    assert one(lower)[0] == [Barrier(1, check, key, lower)]


def test_when_is_accepted_in_any_case() -> None:
    assert one(b"#DISBATCH perengine start x")[0] == [PerEngine(1, "START", b"x")]
    assert one(b"#PERENGINE Stop x")[0] == [PerEngine(1, "STOP", b"x")]


@pytest.mark.parametrize(
    ("line", "column", "length", "message", "hint"),
    [
        (b"#TASKRUN BARIER", 10, 6, "unknown directive `BARIER`", "did you mean BARRIER?"),
        (b"#TASKRUN repaet 2 x", 10, 6, "unknown directive `repaet`", "did you mean REPEAT?"),
        (b"#TASKRUN TIMEOUT 5", 10, 7, "unknown directive `TIMEOUT`", f"directives are {NAMES}"),
        (b"#TASKRUN BARRIERxyz", 10, 10, "unknown directive `BARRIERxyz`", "did you mean `BARRIER xyz`?"),
        (b"#TASKRUN PREFIX=x", 10, 8, "unknown directive `PREFIX=x`", "did you mean PREFIX?"),
        (b"#TASKRUN \xc3\xa4\xff x", 10, 3, "unknown directive `ä\udcff`", f"directives are {NAMES}"),
        (b"#TASKRUN", 1, 8, "no directive after `#TASKRUN`", f"write `#TASKRUN NAME`; NAME is one of {NAMES}"),
        (b"#DISBATCH ", 1, 9, "no directive after `#DISBATCH`", f"write `#DISBATCH NAME`; NAME is one of {THEIRS}"),
        (
            b"#DISBATCHX foo", 1, 10, "`#DISBATCHX` is not a directive",
            f"write `#DISBATCH NAME`, or begin a comment with `# `; NAME is one of {THEIRS}",
        ),
        (b"#TASKRUNBARRIER", 1, 15, "`#TASKRUNBARRIER` is not a directive", "did you mean `#TASKRUN BARRIER`?"),
        (b"#TASKRUN\tBARRIER", 9, 1, "a TAB after #TASKRUN: exactly one blank goes before the name", "write `#TASKRUN BARRIER`"),
        (
            b"#DISBATCH  BARIER", 11, 1, "a second blank after #DISBATCH: exactly one blank goes before the name",
            "write `#DISBATCH BARRIER`",
        ),
        (b"#TASKRUN PREFIX\tx", 16, 1, "a TAB after PREFIX: exactly one blank goes before its text", "usage: #TASKRUN PREFIX [text]"),
        (b"#SUFFIX\t\tx", 8, 2, "a TAB after SUFFIX: exactly one blank goes before its text", "usage: #SUFFIX [text]"),
        (b"#TASKRUN BARRIER\tkey", 17, 1, "a TAB after BARRIER: exactly one blank goes before what follows", BARRIER_USAGE),
        (b"#TASKRUN BARRIER CHECKME x", 18, 7, "`CHECKME` is neither CHECK nor a key: no key begins with CHECK", BARRIER_USAGE),
        (b"#TASKRUN BARRIER CHECK\tx", 23, 1, "a TAB after CHECK", BARRIER_USAGE),
        (b"#TASKRUN BARRIER Check x", 18, 5, "`Check` must be written CHECK", BARRIER_USAGE),
        (b"#TASKRUN REPEAT", 10, 6, "REPEAT without a count", REPEAT_USAGE),
        (b"#TASKRUN REPEAT  ", 10, 6, "REPEAT without a count", REPEAT_USAGE),
        (b"#TASKRUN REPEAT x", 17, 1, "the count `x` must be digits only", REPEAT_USAGE),
        (b"#TASKRUN REPEAT -1 x", 17, 2, "the count `-1` must be digits only", REPEAT_USAGE),
        (b"#TASKRUN REPEAT 12x echo", 17, 3, "the count `12x` must be digits only", REPEAT_USAGE),
        (b"#TASKRUN REPEAT 1\tcmd", 18, 1, "a TAB after the count: exactly one blank goes before the command", REPEAT_USAGE),
        (b"#TASKRUN REPEAT 9223372036854775808", 17, 19, "the number is too large", "it must be below 9,223,372,036,854,775,808"),
        (b"#REPEAT 1 start " + b"9" * 5000, 17, 5000, "the number is too large", "it must be below 9,223,372,036,854,775,808"),
        (b"#TASKRUN PERENGINE", 10, 9, "PERENGINE without START or STOP", PERENGINE_USAGE),
        (b"#TASKRUN PERENGINE ", 10, 9, "PERENGINE without START or STOP", PERENGINE_USAGE),
        (b"#TASKRUN PERENGINE BEGIN x", 20, 5, "`BEGIN` is neither START nor STOP", PERENGINE_USAGE),
        (
            b"#TASKRUN PERENGINE  START x", 20, 1, "a second blank after PERENGINE: exactly one blank goes before START or STOP",
            PERENGINE_USAGE,
        ),
        (b"#TASKRUN PERENGINE\tSTART x", 19, 1, "a TAB after PERENGINE: exactly one blank goes before START or STOP", PERENGINE_USAGE),
        (b"#TASKRUN PERENGINE START", 10, 15, "PERENGINE START without a command", PERENGINE_USAGE),
        (b"#TASKRUN PERENGINE START CHECK", 10, 21, "PERENGINE START CHECK without a command", PERENGINE_USAGE),
        (b"#TASKRUN PERENGINE START CHECK\tx", 31, 1, "a TAB after CHECK: exactly one blank goes before the command", PERENGINE_USAGE),
        (b"#TASKRUN PERENGINE STOP CHECK x", 25, 5, "STOP has no CHECK: the engine leaves anyway", PERENGINE_USAGE),
        (b"#TASKRUN PERENGINE STOP CHECK", 10, 20, "PERENGINE STOP CHECK without a command", PERENGINE_USAGE),
        (b"#TASKRUN PERENGINE STOP\tx", 24, 1, "a TAB after STOP: exactly one blank goes before the command", PERENGINE_USAGE),
        (b"#DISBATCH FOREACH *.txt x", 11, 7, "unknown directive `FOREACH`", "it is taskrun's own: begin the line with `#TASKRUN`"),
        (b"#TASKRUN FOREACHX", 10, 8, "unknown directive `FOREACHX`", "did you mean `FOREACH X`?"),
        (b"#TASKRUN FOREECH x", 10, 7, "unknown directive `FOREECH`", "did you mean FOREACH?"),
        (b"#DISBATCH FOREECH x", 11, 7, "unknown directive `FOREECH`", f"directives are {THEIRS}"),
        (b"#TASKRUN FOREACH", 10, 7, "FOREACH without a glob", FOREACH_USAGE),
        (b"#TASKRUN FOREACH ", 10, 7, "FOREACH without a glob", FOREACH_USAGE),
        (b"#TASKRUN FOREACH  x", 18, 1, "a second blank after FOREACH: exactly one blank goes before the glob", FOREACH_USAGE),
        (b"#TASKRUN FOREACH\tx", 17, 1, "a TAB after FOREACH: exactly one blank goes before the glob", FOREACH_USAGE),
        (b"#TASKRUN FOREACH x\ty", 19, 1, "a TAB after the glob: exactly one blank goes before the command", FOREACH_USAGE),
        (b"#TASKRUN FOREACH 'x y", 18, 4, "a quote in the glob has no end", FOREACH_USAGE),
        (b'#TASKRUN FOREACH "x\\" y', 18, 6, "a quote in the glob has no end", FOREACH_USAGE),
        (b"#TASKRUN FOREACH x\\", 18, 2, "a quote in the glob has no end", FOREACH_USAGE),
        (b"#TASKRUN STAGE-IN", 10, 8, "STAGE-IN without its source", STAGE_IN_USAGE),
        (b"#TASKRUN STAGE-IN ENGINE ", 10, 8, "STAGE-IN without its source", STAGE_IN_USAGE),
        (b"#TASKRUN STAGE-IN a b c", 23, 1, "`c` is one word too many: quote a name with blanks", STAGE_IN_USAGE),
        (b"#TASKRUN STAGE-IN a 'b c", 21, 4, "a quote has no end", STAGE_IN_USAGE),
        (b"#TASKRUN STAGE-OUT TASK a", 10, 9, "STAGE-OUT without where it goes", STAGE_OUT_USAGE),
        (b"#TASKRUN STAGE-OUT", 10, 9, "STAGE-OUT without its pattern and where it goes", STAGE_OUT_USAGE),
        (
            b"#TASKRUN STAGE-OUT ENGINE a b", 20, 6,
            "STAGE-OUT has no ENGINE: RUN looks on every engine that does not share this folder", STAGE_OUT_USAGE,
        ),
        (b"#TASKRUN ENCRYPT", 10, 7, "ENCRYPT without a recipient", ENCRYPT_USAGE),
        (b"#TASKRUN ENCRYPT ,", 18, 1, "ENCRYPT names nobody", ENCRYPT_USAGE),
        (b"#TASKRUN ENCRYPT a SIGN", 20, 4, "SIGN without a key", ENCRYPT_USAGE),
        (b"#TASKRUN ENCRYPT a b", 20, 1, "`b` is not SIGN and a key", ENCRYPT_USAGE),
        (b"#TASKRUN ENCRYPT OFF SIGN k", 22, 4, "nothing follows OFF", ENCRYPT_USAGE),
    ],
)  # fmt: skip
def test_a_wrong_line_is_told_at_its_place(line: bytes, column: int, length: int, message: str, hint: str) -> None:
    items, reader = one(line)
    assert items == []
    (diagnostic,) = reader.diagnostics
    assert diagnostic[:6] == ("error", 1, column, length, message, hint)


@pytest.mark.parametrize(
    ("line", "item"),
    [
        (b"#STAGE-IN s3://b/x*", Stage(1, "in", "RUN", b"s3://b/x*", b"")),
        (b"#TASKRUN STAGE-IN  engine  a\tb/ ", Stage(1, "in", "ENGINE", b"a", b"b/")),
        (b"#DISBATCH STAGE-IN TASK 'a b' ref/", Stage(1, "in", "TASK", b"'a b'", b"ref/")),
        (b"#TASKRUN STAGE-OUT r/*.vcf s3://b/c/", Stage(1, "out", "RUN", b"r/*.vcf", b"s3://b/c/")),
        (b"#TASKRUN STAGE-OUT TASK OFF", Stage(1, "out", "TASK", b"", b"")),
        (b"#ENCRYPT lab@example.org,'my key' SIGN me@example.org", Encrypt(1, ("lab@example.org", "my key"), "me@example.org")),
        (b"#ENCRYPT OFF", Encrypt(1, (), "")),
        (b"#ENCRYPT off", Encrypt(1, (), "")),
        (b"#TASKRUN STAGE-OUT task off", Stage(1, "out", "TASK", b"", b"")),
    ],
)
def test_data(line: bytes, item: Stage | Encrypt) -> None:
    items, reader = one(line)
    assert items == [item._replace(text=line)]
    assert not reader.diagnostics


@pytest.mark.parametrize(
    ("line", "column", "length", "message", "hint"),
    [
        (
            b"#TASKRUN BARRIER key CHECK", 22, 5, "this CHECK is part of the key; the barrier checks nothing",
            "to check, write `#TASKRUN BARRIER CHECK [key]`: one blank, CHECK first",
        ),
        (
            b"#DISBATCH BARRIER  CHECK", 20, 5, "this CHECK is part of the key; the barrier checks nothing",
            "to check, write `#DISBATCH BARRIER CHECK [key]`: one blank, CHECK first",
        ),
        (b'#TASKRUN FOREACH * echo "{}"', 25, 4, "{} is quoted already: no quotes go around it", "write {} alone, or {}.out"),
        (b"#TASKRUN FOREACH * awk '{}' x", 24, 4, "{} is quoted already: no quotes go around it", "write {} alone, or {}.out"),
        (b"#TASKRUN REPEAT 2 step 5 start 3", 26, 5, "`start` is part of the command here", REPEAT_USAGE),
        (b"#TASKRUN REPEAT 2 start -5 echo x", 19, 5, "`start` is part of the command here", REPEAT_USAGE),
        (b"#TASKRUN PERENGINE START check x", 26, 5, "`check` is part of the command here", CHECK_HINT),
        (b"#PERENGINE START  CHECK x", 19, 5, "`CHECK` is part of the command here", CHECK_HINT),
        (b"#DISBATCH PERENGINE STOP CHECK\tx", 26, 5, "`CHECK` is part of the command here", CHECK_HINT),
    ],
)  # fmt: skip
def test_a_line_that_may_not_mean_what_it_seems_is_a_warning(line: bytes, column: int, length: int, message: str, hint: str) -> None:
    items, reader = one(line)
    assert len(items) == 1
    (diagnostic,) = reader.diagnostics
    assert diagnostic[:6] == ("warning", 1, column, length, message, hint)


@pytest.mark.parametrize(
    ("line", "items"),
    [
        (b"#DISBATCH", [Lines(1, b"#DISBATCH", 1)]),
        (b"#DISBATCHX foo", [Lines(1, b"#DISBATCHX foo", 1)]),
        (b"#DISBATCH\tBARRIER", [Lines(1, b"#DISBATCH\tBARRIER", 1)]),
        (b"#DISBATCH ", []),
        (b"#DISBATCH  BARRIER", []),
        (b"#DISBATCH FOO", []),
        (b"#DISBATCH REPEAT x", []),
        (b"#DISBATCH PERENGINE START", []),
        (b"#TASKRUN", []),
        (b"#TASKRUNX", []),
        (b"#PREFIX\tx", []),
        (b"#DISBATCH BARRIERxyz", [Barrier(1, False, None, b"#DISBATCH BARRIERxyz")]),
        (b"#DISBATCH BARRIER\tx", [Barrier(1, False, None, b"#DISBATCH BARRIER\tx")]),
        (b"#DISBATCH BARRIER CHECKME", [Barrier(1, True, None, b"#DISBATCH BARRIER CHECKME")]),
        (b"#DISBATCH BARRIER check x", [Barrier(1, False, b"check x", b"#DISBATCH BARRIER check x")]),
    ],
)
def test_ignored_lines_are_what_disbatch_makes_of_them_and_a_warning(line: bytes, items: list[Item]) -> None:
    found, reader = one(line, ignore_unknown=True)
    assert found == items
    assert [diagnostic.severity for diagnostic in reader.diagnostics] == ["warning"]
    assert one(line)[1].errors == 1


def test_long_lines_are_understood_without_being_kept() -> None:
    line = b"#TASKRUN PREFIX " + b"x" * 100_000
    assert meaning_of(line) is not meaning_of(line)
    assert one(line)[0] == [Prefix(1, b"x" * 100_000)]
    assert meaning_of(b"#PREFIX x") is meaning_of(b"#PREFIX x")
