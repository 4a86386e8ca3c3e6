"""Lines that mean something else together with PREFIX or SUFFIX, and commands that are left in the background."""

from __future__ import annotations

import pytest

from taskrun.language.reader import Reader


def told(text: str) -> list[tuple[int, int, int, str, int]]:
    """(line, column, length, message, further lines) of each."""
    reader = Reader("tasks.txt")
    reader.feed(text.encode() + b"\n")
    assert {each.kind for each in reader.diagnostics} <= {"joined", "background", "incomplete"}
    found = [each for each in reader.diagnostics if each.kind != "incomplete"]
    return [(each.line, each.column, each.length, each.message, each.more) for each in found]


def messages(text: str) -> list[str]:
    return [message for _, _, _, message, _ in told(text)]


@pytest.mark.parametrize(
    ("prefix", "suffix", "line", "column", "length", "message"),
    [
        ("", "> log", "echo seed 2", 11, 1, "`2` and the SUFFIX of line 2, `> log`, make `2>`, which redirects a file descriptor"),
        ("cd x; ", "<in", "a;10", 3, 2, "`10` and the SUFFIX of line 2, `<in`, make `10<`, which redirects a file descriptor"),
        ("", ">log", "echo {fd}", 6, 4, "`{fd}` and the SUFFIX of line 2, `>log`, make `{fd}>`, which redirects a file descriptor"),
        ("echo run", "", "alpha 1", 1, 5, "the PREFIX of line 1, `echo run`, and the beginning of this line become one word"),
        ("", "2> err", "./run a.txt", 9, 3, "the end of this line and the SUFFIX of line 2, `2> err`, become one word"),
        ("", "2> err", "./run 'a'", 9, 1, "the end of this line and the SUFFIX of line 2, `2> err`, become one word"),
        ("", "again", "run", 1, 3, "the end of this line and the SUFFIX of line 2, `again`, become one word"),
        ("", " > log", "./a # seed; 2", 5, 9, "this comment takes the SUFFIX of line 2, `> log`, with it"),
        ("( ", " )", "./a #1", 5, 2, "this comment takes the SUFFIX of line 2, `)`, with it"),
        ("", " &> log", "./a; ./b", 1, 3, "the SUFFIX of line 2, `&> log`, takes no output of this command, only that of the last one"),
        ("", " > log", "cd x && ./a && touch y", 9, 3,
         "the SUFFIX of line 2, `> log`, takes no output of this command, only that of the last one"),
        ("", " 2>log", "A=1; ./a || exit 1", 6, 3,
         "the SUFFIX of line 2, `2>log`, takes no output of this command, only that of the last one"),
        ("", " >> log", "./a &", 1, 3, "the SUFFIX of line 2, `>> log`, takes no output of this command, only that of the last one"),
        ("timeout 1 ", "", "./a; ./b", 6, 3, "the PREFIX of line 1, `timeout 1`, does not hold for this command, only for the first one"),
        ("cd x && nice ", "", "./a | ./b && ./c", 14, 3,
         "the PREFIX of line 1, `cd x && nice`, does not hold for this command, only for the first one"),
        ("OMP_NUM_THREADS=4 ", "", "cd x; ./b", 7, 3,
         "the PREFIX of line 1, `OMP_NUM_THREADS=4`, does not hold for this command, only for the first one"),
    ],
)  # fmt: skip
def test_a_line_that_joins_unexpectedly(prefix: str, suffix: str, line: str, column: int, length: int, message: str) -> None:
    text = f"#PREFIX {prefix}\n#SUFFIX {suffix}\n{line}"
    assert told(text) == [(3, column, length, message, 0)]
    assert told(f"{text}\n# x\n\n{line}\n{line}\n") == [(3, column, length, message, 2)]
    assert told(f"#PREFIX {prefix}\n#SUFFIX {suffix}\n#REPEAT 2 {line}") == [(3, column + 10, length, message, 0)]
    assert told(f"#PREFIX {prefix}\n#SUFFIX {suffix}\n#TASKRUN ALLOW joined\n{line}") == []


@pytest.mark.parametrize(
    ("prefix", "suffix", "line"),
    [
        ("", "> log", "echo run2"),
        ("", "> log", "./run 2>&1"),
        ("", "> log", "echo '2'"),
        ("", "> log", "echo 'a 2' x.2"),
        ("", " > log", "echo 2"),
        ("", "> log", r"cat a\ 2"),
        ("bash -c 'a ", "'> log", "2"),
        ("data/", ".txt", "a"),
        ("run --seed=", "_out", "17"),
        ("cd x; ", "; done", "for i in 1 2; do ./a"),
        ("", " > log", "./a '#1' a#b $#"),
        ("", "", "./a # one"),
        ("", " ", "./a # one"),
        ("", " > log", "./a | sort -u"),
        ("", " > log", "cd x && ./a"),
        ("", " > log", "export A=1; B='2 3'; source env.sh; [[ -f x ]] && ./a"),
        ("", " > log", "./a > x; ./b"),
        ("", " > log", "(./a; ./b)"),
        ("", " > log", "for i in 1 2; do ./a; ./b; done"),
        ("( echo pre; ", " ) > log", "./a; ./b"),
        ("{ ", "; } &> log", "./a; ./b"),
        ("bash -c '", "' > log", "./a; ./b"),
        ("timeout 1 ", "", "./a | ./b"),
        ("timeout 1 ", "", "./a || exit 1"),
        ("timeout 1 ", "", "./a; echo done"),
        ("timeout 1 ", "", "./a || ./b"),
        ("cd x && ", "", "./a; ./b"),
        ("set -e; ", "", "./a; ./b"),
        ("if true; then ", "; fi", "./a; ./b"),
        ("timeout 1 bash -c '", "'", "./a; ./b"),
        ("! ", "", "./a; ./b"),
        ("", " && ./b", "./a"),
    ],
)
def test_a_line_that_joins_as_expected(prefix: str, suffix: str, line: str) -> None:
    assert told(f"#PREFIX {prefix}\n#SUFFIX {suffix}\n{line}\n#REPEAT 3 {line}") == []


BACKGROUND = "this command goes to the background: its task is recorded as done at once, while the command still runs"


@pytest.mark.parametrize("line", ["./a &", "./a > x 2>&1 &  ", "./a & ./b &", "nohup ./a & # later", "cd x; ./a\t&"])
def test_a_command_in_the_background(line: str) -> None:
    assert told(f"true\n{line}\n# x\n{line}\n{line}") == [(2, line.rindex("&") + 1, 1, BACKGROUND, 2)]
    assert messages(f"#PREFIX cd x; \n{line}\n#TASKRUN ALLOW background\n{line}") == [BACKGROUND]
    assert messages(f"#REPEAT 2 {line}") == [BACKGROUND]


@pytest.mark.parametrize(
    "line", ["./a && ./b", r"echo \&", "echo '&", "echo 'a' # &", "./a & wait", "./a & ./b", '"a &', "(./a &)", "echo '&'", "a >&", "# &"]
)
def test_no_command_in_the_background(line: str) -> None:
    assert told(line) == []
    assert told(f"# x &\n{line}") == []


def test_a_suffix_that_sends_every_command_to_the_background() -> None:
    text = "#SUFFIX  > log &\n" + "./a\n# x\n\n" * 3000 + "#REPEAT 3 ./b\n#SUFFIX  & wait\n./c\n#SUFFIX  &\n./d"
    message = "with the SUFFIX of line {} " + BACKGROUND
    assert told(text) == [(2, 1, 3, message.format(1), 3000), (9006, 1, 3, message.format(9005), 0)]


def test_ten_thousand_lines_are_told_once() -> None:
    assert [more for *_, more in told("#SUFFIX > log\n" + "".join(f"echo seed {number}\n" for number in range(10_000)))] == [9999]
