"""`taskrun check`: every problem of a task file, before it is run."""

from __future__ import annotations

import os
import sys
from typing import BinaryIO, cast

from taskrun.driver.foreach import FileLists, take_all
from taskrun.errors import ExitCode, Handled, Refused, told
from taskrun.language.diagnostics import in_order, render_all
from taskrun.language.items import Foreach
from taskrun.language.source import Scan, read_items, scan, scan_file
from taskrun.options import Options, command_parser, parse_command
from taskrun.visible import visible

_FOREACH_SHOWN = 20
_STAGES_SHOWN = 20

_OPTIONS = ("ignore_unknown", "strict", "rclone_config", "passphrase_file")

_PURPOSE = "Shows every problem of a task file, as FILE:LINE:COLUMN, without running anything."

_EPILOG = """\
examples:
  taskrun check tasks.txt
  taskrun check --syntax tasks.txt
  generate | taskrun check -

exit codes: 0 taskrun would run it (warnings count with --strict) · 2 it would not, or
--syntax found an error
Problems go to stderr; for each file without an error one line goes to stdout.
"""


def check(argv: list[str]) -> int:
    """Runs the command with the arguments after its name; returns the exit code."""
    parser = command_parser("check", "[options] FILE …", _PURPOSE, _OPTIONS, _EPILOG)
    parser.add_argument("files", nargs="+", metavar="FILE", help="task file; - reads standard input")
    parser.add_argument("--syntax", action="store_true", help="ask bash about the syntax of every command, too (bash -n; nothing is run)")
    namespace, options = parse_command(parser, argv, _OPTIONS)
    codes = [_check_one(name, options, namespace.syntax) for name in namespace.files]
    return max(codes)


def _check_one(name: str, options: Options, syntax: bool) -> int:
    lists = FileLists()
    transfers: dict[int, str] = {}
    how = {"ignore_unknown": options.ignore_unknown, "strict": options.strict}
    stdin: BinaryIO | None = None
    given_up = 0
    try:
        if name == "-":
            stdin = _kept(_stdin()) if syntax else _stdin()
        result = scan(stdin, name, **how) if stdin else scan_file(name, **how)
        if result.stages and not result.errors:
            from taskrun.driver.inspection import inspect

            result = inspect(result, options.rclone_config or "", options.passphrase_file or "")
            if not result.errors:
                result, transfers = _surveyed(result, options)
        if not result.errors:
            result = take_all(result, lists)
        if syntax and not result.errors:
            result, given_up = _with_syntax(result, stdin or name, options)
    except Handled as error:
        print(error.told, file=sys.stderr)
        return error.exit_code
    color = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    sys.stderr.write(render_all(result.diagnostics, name, result.errors, result.warnings, color))
    if result.errors:
        more = f"; bash was not asked about the lines below line {given_up:,}" if given_up else ""
        print(f"{visible(name)}: {_problems(result)}{more}", file=sys.stderr)
        return ExitCode.REFUSED
    for note in lists.take_notes():
        print(told(note), file=sys.stderr)
    print(f"{visible(name)}: {_contents(result)}; {_problems(result)}")
    for item, _ in result.foreach[:_FOREACH_SHOWN]:
        print(f"  line {item.line}: {_shown(item.glob)}: {_files(item, lists)}")
    if len(result.foreach) > _FOREACH_SHOWN:
        print(f"  … and {len(result.foreach) - _FOREACH_SHOWN:,} more FOREACH")
    for stage in result.stages[:_STAGES_SHOWN]:
        print(f"  line {stage.line}: {_shown(stage.text)}" + (f": {transfers[stage.line]}" if stage.line in transfers else ""))
    if len(result.stages) > _STAGES_SHOWN:
        print(f"  … and {len(result.stages) - _STAGES_SHOWN:,} more lines about data")
    lists.close()
    return ExitCode.OK


def _surveyed(result: Scan, options: Options) -> tuple[Scan, dict[int, str]]:
    """The scan with what stores say of its data, and by line what is to be moved."""
    from taskrun.driver.survey import Survey

    survey = Survey(result, options.rclone_config or "")
    errors = sum(each.severity == "error" for each in survey.problems)
    diagnostics = in_order(result.diagnostics, survey.problems)
    found = result._replace(
        diagnostics=diagnostics, errors=result.errors + errors, warnings=result.warnings + len(survey.problems) - errors
    )
    return found, survey.said


def _stdin() -> BinaryIO:
    if sys.stdin is None:  # closed by `<&-`
        raise Refused("-: standard input is closed")
    return sys.stdin.buffer


def _kept(stream: BinaryIO) -> BinaryIO:
    """The same text, to be read twice."""
    import shutil
    import tempfile

    copy = cast("BinaryIO", tempfile.TemporaryFile())  # until the end of the program
    shutil.copyfileobj(stream, copy)
    copy.seek(0)
    return copy


def _with_syntax(result: Scan, source: str | BinaryIO, options: Options) -> tuple[Scan, int]:
    """The scan with what bash says of its commands, and the line at which it was not asked any more, or 0."""
    from taskrun.driver.syntax import rows, syntax_errors

    if not isinstance(source, str):
        source.seek(0)
    found, given_up = syntax_errors(rows(read_items(source, ignore_unknown=options.ignore_unknown)))
    diagnostics = sorted([*result.diagnostics, *found], key=lambda each: (each.line, each.column))
    return result._replace(diagnostics=diagnostics, errors=result.errors + len(found)), given_up


def _contents(result: Scan) -> str:
    parts = [_count(result.tasks, "task")]
    if result.barriers:
        parts.append(_count(result.barriers, "barrier"))
    if result.perengine:
        parts.append(_count(len(result.perengine), "per-engine command"))
    return ", ".join(parts)


def _files(item: Foreach, lists: FileLists) -> str:
    """How many files a FOREACH has, and which."""
    number = lists.take(item, b"")
    if not number:
        return "no file"
    first, last = map(_shown, lists.ends(item))
    return f"1 file, {first}" if number == 1 else f"{number:,} files, {first} … {last}"


def _shown(path: bytes) -> str:
    return visible(path.decode("utf-8", "surrogateescape"))


def _problems(result: Scan) -> str:
    counts = [_count(number, word) for number, word in ((result.errors, "error"), (result.warnings, "warning")) if number]
    return ", ".join(counts) or "no problems"


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"
