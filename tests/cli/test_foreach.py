"""`#TASKRUN FOREACH GLOB [command]`: a task for each file, taken once."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from harness import Taskrun

ODD = [
    b"a b",
    b"it's",
    b'"q"',
    b"$HOME",
    b"`x`",
    b"back\\slash",
    b"-dash",
    b"*?[x]",
    b"\xff\xe9",
    "é日".encode(),
    b"tab\there",
    b"c\r",
    b"#x",
    b"{}",
]


def said(text: str) -> str:
    return re.sub(r" in \d+\.\d s · ", " in N s · ", text)


def make(folder: Path, *names: bytes) -> None:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / os.fsdecode(name)).touch()


def test_a_task_for_each_file_sorted_bytewise(taskrun: Taskrun) -> None:
    make(taskrun.folder / "d", b"b.txt", b"B.txt", b"a.txt", b"a.TXT", b".hidden.txt", "ä.txt".encode())
    (taskrun.folder / "d" / "folder.txt").mkdir()
    text = 'true\n#TASKRUN FOREACH d/*.txt printf "%s\\n" {} "$TASKRUN_FILE" $TASKRUN_REPEAT_INDEX > {}.out\ntrue\n'
    result = taskrun("tasks.txt", "-s", "localhost:2", "-p", "run", files={"tasks.txt": text})
    assert (result.code, said(result.err)) == (0, "taskrun: 6 tasks done, none failed in N s · run_status.txt\n")
    rows = sorted((each["TaskID"], each["LineNum"], each["RepeatIndex"], each["Command"].rpartition("> ")[2]) for each in result.records())
    assert rows == [
        (0, 1, -1, "true"),
        (1, 2, 0, "d/B.txt.out"),
        (2, 2, 1, "d/a.txt.out"),
        (3, 2, 2, "d/b.txt.out"),
        (4, 2, 3, "'d/ä.txt'.out"),
        (5, 3, -1, "true"),
    ]
    assert (taskrun.folder / "d" / "b.txt.out").read_text() == "d/b.txt\nd/b.txt\n2\n"
    assert (taskrun.folder / "run_files.txt").read_text() == "FOREACH d/*.txt\n\td/B.txt\n\td/a.txt\n\td/b.txt\n\td/ä.txt\nEND 4\n"


def test_any_byte_of_a_name_survives(taskrun: Taskrun) -> None:
    make(taskrun.folder / "d", *ODD)
    text = 'printf "%s\\0" {} > out/$TASKRUN_REPEAT_INDEX; printf %s "$TASKRUN_FILE" >> out/$TASKRUN_REPEAT_INDEX'
    (taskrun.folder / "out").mkdir()
    taskrun.write({"tasks.txt": f"#TASKRUN FOREACH d/* {text}\n#TASKRUN FOREACH d/-dash ls -- {{}}\n"})
    result = taskrun("tasks.txt", "-s", "localhost:2", "-p", "run")
    assert (result.code, [each["ReturnCode"] for each in result.records()]) == (0, [0] * (len(ODD) + 1))
    for index, name in enumerate(sorted(b"d/" + name for name in ODD)):
        assert (taskrun.folder / "out" / str(index)).read_bytes() == name + b"\0" + name
    again = taskrun("-r", "run_status.txt", "-p", "again")
    assert (again.code, said(again.err)) == (0, f"taskrun: nothing is left to run: {len(ODD) + 1} skipped · again_status.txt\n")


def test_a_file_in_the_working_directory_and_without_foreach_no_variable(taskrun: Taskrun) -> None:
    make(taskrun.folder, b"-x.dat")
    text = "#TASKRUN FOREACH *.dat echo {}$TASKRUN_FILE > one\necho none$TASKRUN_FILE > two\n"
    assert taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", files={"tasks.txt": text}).code == 0
    assert (taskrun.folder / "one").read_text() == "./-x.dat./-x.dat\n"  # no option, in neither
    assert (taskrun.folder / "two").read_text() == "none\n"


def test_prefix_and_suffix_as_for_repeat(taskrun: Taskrun) -> None:
    make(taskrun.folder / "d", b"a b", b"c")
    text = '#PREFIX echo "$TASKRUN_FILE" {} \n#SUFFIX  >> out\n#TASKRUN FOREACH d/*\n#TASKRUN FOREACH d/c and\n'
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", files={"tasks.txt": text})
    assert [each["Command"] for each in result.records()] == [
        "echo \"$TASKRUN_FILE\" 'd/a b'  >> out",
        'echo "$TASKRUN_FILE" d/c  >> out',
        'echo "$TASKRUN_FILE" d/c and >> out',
    ]
    assert (taskrun.folder / "out").read_text() == "d/a b d/a b\nd/c d/c\nd/c d/c and\n"


@pytest.mark.parametrize(
    ("glob", "found"),
    [
        ("*", "a.txt b.txt"),
        ("*.txt", "a.txt b.txt"),
        ("?.txt", "a.txt b.txt"),
        ("[ab].txt", "a.txt b.txt"),
        ("[!a].txt", "b.txt"),
        ("[^a].txt", "b.txt"),
        ("[b-z].txt", "b.txt"),
        ("[[:alpha:]].txt", "a.txt b.txt"),
        ("[z-a].txt", ""),
        ("a.txt", "a.txt"),
        ("./*.txt", "./a.txt ./b.txt"),
        ("../t/*.txt", "../t/a.txt ../t/b.txt"),
        (".*", ".h.txt"),
        ("*/x*", "d/x.txt"),
        ("d/*/*.txt", "d/e/y.txt d/g/x.txt"),
        ("**/*.txt", "a.txt b.txt d/e/y.txt d/g/x.txt d/x.txt"),
        ("d/**", "d/e/y.txt d/g/x.txt d/x.txt"),
        ("d/**/x.txt", "d/g/x.txt d/x.txt"),
        ("**/**/**/x.txt", "d/g/x.txt d/x.txt"),
        ("**/d/**/x.txt", "d/g/x.txt d/x.txt"),
        ("d/*/", "d/e/ d/g/"),
        ("d/e/", "d/e/"),
        ("'a'.txt", "a.txt"),
        ("'*'.txt", ""),
        (r"\*.txt", ""),
        ('"sp ace"/*', "sp ace/z"),
        (r"sp\ ace/*", "sp ace/z"),
        ("{a,b}.txt", ""),
        ("*.none", ""),
        ("nosuch/*", ""),
        ("a.txt/*", ""),
        ("links/*", "links/broken links/file"),
        ("~/h*", "HOME/here"),
    ],
)
def test_globs(taskrun: Taskrun, glob: str, found: str) -> None:
    folder = taskrun.folder / "t"
    for name in ("a.txt", "b.txt", ".h.txt", "d/x.txt", "d/e/y.txt", "d/g/x.txt", "d/.i/x.txt", "sp ace/z"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / "links").mkdir()
    (folder / "links" / "file").symlink_to("../a.txt")
    (folder / "links" / "folder").symlink_to("../d")
    (folder / "links" / "broken").symlink_to("nowhere")
    home = Path(taskrun.env["HOME"])
    (home / "here").touch()
    (taskrun.folder / "tasks").write_text(f"#TASKRUN FOREACH {glob} {{}}\n")
    result = taskrun("--dry-run", "-s", "localhost:1", taskrun.folder / "tasks", cwd=folder)
    if glob in ("{a,b}.txt", "'*'.txt", r"\*.txt"):
        assert result.code == 2, "a plain name, and there is no such file"
        return
    assert result.code == 0, result.err
    shown = [line.split("\t")[5].replace(str(home), "HOME").strip("'") for line in result.out.splitlines()]
    assert sorted(shown) == shown
    names = [name if name != "sp" else "sp ace/z" for name in found.split(" ") if name != "ace/z"] if found else []
    assert shown == names


def test_no_match_is_a_warning_and_a_missing_plain_name_an_error(taskrun: Taskrun) -> None:
    text = "#TASKRUN FOREACH data/*.txt x {}\n#TASKRUN FOREACH $DATA/* x\n#TASKRUN FOREACH *.{a,b} x\necho > ran\n"
    taskrun.write({"tasks.txt": text})
    warned = (
        "tasks.txt:1:18: warning: no file matches `data/*.txt`\n"
        "  1 | #TASKRUN FOREACH data/*.txt x {}\n"
        "    |                  ^^^^^^^^^^\n"
        f"  help: it is looked for in {taskrun.folder}\n"
        "  help: `#TASKRUN ALLOW no-match` above it silences this\n"
        "tasks.txt:2:18: warning: no file matches `$DATA/*`\n"
        "  2 | #TASKRUN FOREACH $DATA/* x\n"
        "    |                  ^^^^^^^\n"
        "  help: variables are not expanded here\n"
        "  help: `#TASKRUN ALLOW no-match` above it silences this\n"
        "tasks.txt:3:18: warning: no file matches `*.{a,b}`\n"
        "  3 | #TASKRUN FOREACH *.{a,b} x\n"
        "    |                  ^^^^^^^\n"
        "  help: braces are not expanded here\n"
        "  help: `#TASKRUN ALLOW no-match` above it silences this\n"
    )
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "run")
    assert (result.code, said(result.err)) == (0, warned + "taskrun: 1 task done, none failed in N s · run_status.txt\n")
    check = taskrun("check", "tasks.txt")
    assert (check.code, check.err) == (0, warned)
    assert check.out == (
        "tasks.txt: 1 task; 3 warnings\n  line 1: data/*.txt: no file\n  line 2: $DATA/*: no file\n  line 3: *.{a,b}: no file\n"
    )

    taskrun.write({"tasks.txt": "echo > ran2\n#TASKRUN FOREACH params.csv x {}\n"})
    refused = taskrun("tasks.txt", "-s", "localhost:1", "-p", "two")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err == (
        "tasks.txt:2:18: error: no file `params.csv`\n"
        "  2 | #TASKRUN FOREACH params.csv x {}\n"
        "    |                  ^^^^^^^^^^\n"
        f"  help: it is looked for in {taskrun.folder}\n"
    )
    assert taskrun("check", "tasks.txt").code == 2
    assert {path.name for path in taskrun.folder.glob("two*")} | {path.name for path in taskrun.folder.glob("ran2")} == set()


def test_a_name_with_a_newline_is_refused(taskrun: Taskrun) -> None:
    make(taskrun.folder / "d", b"a", b"new\nline")
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", files={"tasks.txt": "touch ran\n#TASKRUN FOREACH d/* x {}\n"})
    sentence = r"line 2: the name of `d/new\nline` has a newline, which no line of a status file can hold: rename it"
    assert (result.code, result.out, result.err) == (2, "", f"taskrun: {sentence}\n")
    assert {path.name for path in taskrun.folder.iterdir()} == {"tasks.txt", "d"}


def test_check_and_dry_run_show_what_it_expands_to(taskrun: Taskrun) -> None:
    make(taskrun.folder / "d", *(b"%03d" % number for number in range(12)), b"z\xff")
    taskrun.write({"tasks.txt": "#TASKRUN FOREACH d/* cat {}\n#TASKRUN FOREACH d/000 cat\ntrue\n"})
    check = taskrun("check", "tasks.txt")
    assert (check.code, check.err) == (0, "")
    assert check.out == "tasks.txt: 15 tasks; no problems\n  line 1: d/*: 13 files, d/000 … d/z\\xff\n  line 2: d/000: 1 file, d/000\n"
    plan = taskrun("tasks.txt", "--dry-run", "-s", "localhost:2")
    assert plan.out.startswith("run\t0\t1\t0\tno record\tcat d/000\nrun\t1\t1\t1\tno record\tcat d/001\n")
    assert plan.out.count("\n") == 15
    assert {path.name for path in taskrun.folder.iterdir()} == {"tasks.txt", "d"}


def test_a_resume_has_the_files_of_the_first_run(taskrun: Taskrun) -> None:
    make(taskrun.folder / "d", b"b", b"c", b"d")
    text = "#TASKRUN FOREACH d/* test ! -e stop -o {} = d/b || exit 7; echo {} >> out\nfalse\n"
    taskrun.write({"tasks.txt": text, "stop": ""})
    first = taskrun("tasks.txt", "-s", "localhost:1", "-p", "run")
    assert sorted((each["TaskID"], each["ReturnCode"]) for each in first.records()) == [(0, 0), (1, 7), (2, 7), (3, 1)]
    (taskrun.folder / "stop").unlink()
    make(taskrun.folder / "d", b"a", b"bb", b"z")
    (taskrun.folder / "d" / "b").unlink()
    told = (
        "taskrun: line 1: of `d/*`, 3 more and 1 no longer there than when the run began: "
        "it goes on with the files of then (with --match command: those of now)\n"
    )
    again = taskrun("-r", "run_status.txt", "-R", "-p", "again")
    assert (again.code, said(again.err).partition("\n  line 2")[0]) == (
        0, told + "taskrun: 2 tasks done, 1 skipped, 1 failed in N s · again_status.txt",
    )  # fmt: skip
    assert (taskrun.folder / "out").read_text() == "d/b\nd/c\nd/d\n"
    third = taskrun("-r", "again_status.txt", "-p", "third")
    assert said(third.err).startswith(told + "taskrun: nothing is left to run: 3 skipped, 1 failed")
    assert (taskrun.folder / "third_files.txt").read_bytes() == (taskrun.folder / "run_files.txt").read_bytes()
    fresh = taskrun("-r", "again_status.txt", "--match", "command", "-p", "fresh")
    gone, _, rest = said(fresh.err).partition("\n")
    assert gone.startswith("taskrun: 1 record of again_status.txt is of a task that tasks.txt does not have any more (task 0: ")
    assert rest.startswith("taskrun: 3 tasks done, 2 skipped, 1 failed in N s · fresh_status.txt")
    assert (taskrun.folder / "out").read_text() == "d/b\nd/c\nd/d\nd/a\nd/bb\nd/z\n"
    plain = taskrun("-r", "fresh_status.txt", "-p", "plain")
    assert said(plain.err).startswith("taskrun: nothing is left to run: 5 skipped, 1 failed")


def test_a_list_that_is_gone_is_said(taskrun: Taskrun) -> None:
    make(taskrun.folder / "d", b"b")
    taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", files={"tasks.txt": "#TASKRUN FOREACH d/* echo {} >> out\n"})
    (taskrun.folder / "run_files.txt").unlink()
    make(taskrun.folder / "d", b"a")
    result = taskrun("-r", "run_status.txt", "-p", "again")
    assert result.code == 2
    assert "taskrun: 1 task is not what run_status.txt has on record: nothing was run\n" in result.err
    (taskrun.folder / "d" / "a").unlink()
    result = taskrun("-r", "run_status.txt", "-p", "again")
    told = f"taskrun: line 1: {taskrun.folder}/run_files.txt is not there: the files of `d/*` are those of now\n"
    assert said(result.err) == told + "taskrun: nothing is left to run: 1 skipped · again_status.txt\n"


def test_without_its_file_in_the_text_match_command_runs_all_again(taskrun: Taskrun) -> None:
    make(taskrun.folder / "d", b"a", b"b")
    taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", files={"tasks.txt": '#TASKRUN FOREACH d/* echo "$TASKRUN_FILE" >> out\n'})
    result = taskrun("-r", "run_status.txt", "--match", "command", "-p", "again")
    assert said(result.err) == (
        "taskrun: line 1: without {} its text does not name the file, so --match command runs all of it again\n"
        "taskrun: 2 tasks done, none failed in N s · again_status.txt\n"
    )


def test_a_stream_takes_the_files_when_the_line_comes_and_keeps_them(taskrun: Taskrun) -> None:
    make(taskrun.folder / "d", b"b", b"c")
    lines = b"touch d/a\n#BARRIER\n#TASKRUN FOREACH d/[bc] echo {} >> out; false\n#TASKRUN FOREACH no* x\ntrue\n"
    result = taskrun("-", "-s", "localhost:1", "-p", "run", stdin=lines)
    assert result.code == 0
    assert "-:4:18: warning: no file matches `no*`\n" in result.err
    assert (taskrun.folder / "out").read_text() == "d/b\nd/c\n"
    assert (taskrun.folder / "run_files.txt").read_text() == "FOREACH d/[bc]\n\td/b\n\td/c\nEND 2\nFOREACH no*\nEND 0\n"
    (taskrun.folder / "d" / "b").unlink()
    again = taskrun("-r", "run_status.txt", "-R", "-p", "again")
    assert "taskrun: line 3: of `d/[bc]`, 1 no longer there than when the run began: it goes on with the files of then\n" in again.err
    assert (taskrun.folder / "out").read_text() == "d/b\nd/c\nd/b\nd/c\n"
    missing = taskrun("-", "-s", "localhost:1", "-p", "miss", stdin=b"true\n#TASKRUN FOREACH missing x\ntrue\n")
    assert missing.code == 3
    assert "-:2:18: error: no file `missing`\n" in missing.err
    assert [each["Command"] for each in missing.records("miss")] == ["true"]


def test_a_folder_that_cannot_be_read_is_said(taskrun: Taskrun) -> None:
    loop = taskrun.folder / "d"
    loop.mkdir()
    (loop / "x").symlink_to("x")
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", files={"tasks.txt": "#TASKRUN FOREACH d/x/* x\ntrue\n"})
    assert result.code == 0
    assert "no file matches `d/x/*`" in result.err


def test_the_run_goes_on_in_its_own_file(taskrun: Taskrun) -> None:
    make(taskrun.folder / "d", b"a", b"b")
    taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", files={"tasks.txt": "#TASKRUN FOREACH d/* test {} = d/a\n"})
    before = (taskrun.folder / "run_files.txt").read_bytes()
    (taskrun.folder / "d" / "a").unlink()
    result = taskrun("-r", "run_status.txt", "-R", "--append")
    assert result.code == 0
    assert [(each["TaskID"], each["ReturnCode"]) for each in result.records("run")] == [(0, 0), (1, 1), (1, 1)]
    assert (taskrun.folder / "run_files.txt").read_bytes() == before


def test_a_thousand_files_a_long_name_and_a_long_line(taskrun: Taskrun) -> None:
    make(taskrun.folder / "d", *(b"%0200d" % number for number in range(1000)))
    places = "{}" * 100_000
    taskrun.write({"tasks.txt": "#TASKRUN FOREACH d/* true {}\n", "long": f"#TASKRUN FOREACH d/* : {places}\n"})
    assert taskrun("tasks.txt", "-s", "localhost:4", "-p", "run").code == 0
    refused = taskrun("long", "-s", "localhost:4", "-p", "two")
    assert (refused.code, refused.err) == (2, "taskrun: line 1: with the files in their places the command is longer than 9 MiB\n")
