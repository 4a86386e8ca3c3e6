"""`taskrun completion bash|zsh|fish`: what a shell needs to complete the command line, made from the option table.

The files in completions/ are what this prints; a test holds them to it.
"""

from __future__ import annotations

import sys

from taskrun.errors import ExitCode, Refused
from taskrun.options import OPTIONS, Option

_HELP = """\
usage: taskrun completion bash|zsh|fish

Prints what the shell needs to complete taskrun's command line:

  bash   taskrun completion bash > ~/.local/share/bash-completion/completions/taskrun
  zsh    taskrun completion zsh > ~/.zfunc/_taskrun        (with fpath+=~/.zfunc before compinit)
  fish   taskrun completion fish > ~/.config/fish/completions/taskrun.fish
"""

#: Options whose values are hosts, words or numbers: no file name is offered for them.
_FILES = ("FILE", "PATH", "STATUS", "DIR")


def completion(argv: list[str]) -> int:
    """Prints to stdout. Raises Refused for a shell that is not known."""
    if argv in (["-h"], ["--help"]):
        sys.stdout.write(_HELP)
        return ExitCode.OK
    shells = {"bash": bash, "zsh": zsh, "fish": fish}
    if len(argv) != 1 or argv[0] not in shells:
        raise Refused("taskrun completion needs the name of a shell: bash, zsh or fish")
    sys.stdout.buffer.write(shells[argv[0]]().encode())  # a file, whatever this terminal shows
    return ExitCode.OK


def _shown() -> list[Option]:
    return [option for option in OPTIONS if option.later is None]


def _commands() -> list[str]:
    from taskrun.cli.main import COMMANDS

    return sorted(COMMANDS)


def bash() -> str:
    cases = []
    for option in _shown():
        if option.kind is None:
            continue
        flags = "|".join(option.flags)
        if option.choices:
            cases.append(f'    {flags}) COMPREPLY=($(compgen -W "{" ".join(option.choices)}" -- "$word")); return ;;')
        elif option.metavar in _FILES:
            cases.append(f'    {flags}) COMPREPLY=($(compgen -f -- "$word")); return ;;')
        elif option.name == "hosts":
            cases.append(f'    {flags}) COMPREPLY=($(compgen -A hostname -S : -- "$word")); compopt -o nospace; return ;;')
        else:
            cases.append(f"    {flags}) return ;;")
    flags = " ".join(flag for option in _shown() for flag in option.flags)
    return f"""\
# Completion of taskrun for bash; made by `taskrun completion bash`.
_taskrun() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}}
  COMPREPLY=()
  case $before in
{chr(10).join(cases)}
  esac
  if [[ $word == -* ]]; then
    COMPREPLY=($(compgen -W "{flags} --help --version" -- "$word"))
  else
    COMPREPLY=($(compgen -f -- "$word"))
    [ "$COMP_CWORD" -gt 1 ] || COMPREPLY+=($(compgen -W "{" ".join(_commands())}" -- "$word"))
  fi
}}
complete -o filenames -F _taskrun taskrun
"""


def zsh() -> str:
    lines = []
    for option in _shown():
        text = option.help.replace("\\", "").replace("[", "(").replace("]", ")").replace("'", "’").replace(":", "\\:")
        action = ""
        if option.kind is not None:
            name = (option.metavar or option.name).lower().replace(":", "\\:")
            what = f"({' '.join(option.choices)})" if option.choices else "_files" if option.metavar in _FILES else " "
            action = f":{name}:{what}"
        star = "*" if option.many else ""
        lines += [f"  '{star}{flag}[{text}]{action}'" for flag in option.flags]
    rows = " \\\n".join(lines)
    return f"""\
#compdef taskrun
# Completion of taskrun for zsh; made by `taskrun completion zsh`.
_arguments \\
{rows} \\
  '--help[this text]' \\
  '--version[the version]' \\
  '1:task file or command:_alternative "commands:command:({" ".join(_commands())})" "files:task file:_files"' \\
  '*:file:_files'
"""


def fish() -> str:
    lines = ["# Completion of taskrun for fish; made by `taskrun completion fish`."]
    lines.append(f"complete -c taskrun -n __fish_is_first_arg -a '{' '.join(_commands())}'")
    for option in _shown():
        names = " ".join(f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}" for flag in option.flags)
        text = option.help.replace("\\", "\\\\").replace("'", "\\'")
        needs = ""
        if option.choices:
            needs = f" -x -a '{' '.join(option.choices)}'"
        elif option.kind is not None:
            needs = " -r" if option.metavar in _FILES else " -x"
        lines.append(f"complete -c taskrun {names}{needs} -d '{text}'")
    return "\n".join(lines) + "\n"
