"""Writes the manual and the shell completion from what the program itself knows, so that they cannot fall behind it.

python packaging/manual.py FOLDER      makes firstspike.1, firstspike.toml.5 and firstspike.bash
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo

import firstspike
from firstspike import cli, plugins
from firstspike.config import Config

REPLACED = {"\\": "\\e", "-": "\\-", "µ": "\\(mc", "×": "\\(mu", "≤": "\\(<=", "≥": "\\(>=", "–": "\\(en", "…": "..."}


def roff(text: str) -> str:
    """Plain text as a line of roff."""
    text = "".join(REPLACED.get(letter, letter) for letter in " ".join(text.split()))
    return f"\\&{text}" if text[:1] in (".", "'") else text


def header(name: str, section: int, what: str) -> list[str]:
    """Title and NAME."""
    version = f"firstspike {firstspike.__version__}"
    made = float(os.environ.get("SOURCE_DATE_EPOCH") or time.time())
    date = time.strftime("%Y-%m-%d", time.gmtime(made))
    return [
        f'.TH {roff(name.upper())} {section} "{date}" "{version}" "firstspike"',
        ".SH NAME",
        f"{roff(name)} \\- {roff(what)}",
    ]


def commands() -> dict[str, argparse.ArgumentParser]:
    """Every command's parser, sub-commands included, by what is typed."""
    found: dict[str, argparse.ArgumentParser] = {}

    def walk(name: str, parser: argparse.ArgumentParser) -> None:
        inner = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        if name:
            found[name] = parser
        for action in inner:
            for sub, one in action.choices.items():
                walk(f"{name} {sub}".strip(), one)

    walk("", cli.parser())
    return found


def options(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    """Arguments as they are typed, and what they do."""
    formatter = parser._get_formatter()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction | argparse._HelpAction) or action.help == argparse.SUPPRESS:
            continue
        yield formatter._format_action_invocation(action), formatter._expand_help(action) if action.help else ""


def program() -> str:
    """firstspike(1)."""
    top = cli.parser()
    lines = header("firstspike", 1, "edge runtime for event cameras")
    lines += [
        ".SH SYNOPSIS",
        ".B firstspike",
        ".I COMMAND",
        "[ARGUMENTS]",
        ".SH DESCRIPTION",
        roff(top.description or ""),
    ]
    lines += [".SH COMMANDS"]
    for name, parser in commands().items():
        lines += [f".SS {roff(f'firstspike {name}')}", roff(parser.description or "")]
        for typed, what in options(parser):
            lines += [".TP", f".B {roff(typed)}", roff(what) or "\\&"]
    lines += [".SH EXIT STATUS", "Those of sysexits(3):"]
    for code, what in re.findall(r"(\d+) ([^,\n]+)", (top.epilog or "").split("documentation:")[0]):
        lines += [".TP", f".B {code}", roff(what)]
    lines += [
        ".SH SIGNALS",
        ".TP",
        ".B SIGHUP",
        "The daemon loads its configuration again, all of it or nothing.",
        ".TP",
    ]
    lines += [".B SIGTERM, SIGINT", "The daemon ends in good order; a second one ends it at once."]
    lines += [".SH FILES", ".TP", ".I /etc/firstspike/config.toml", "The configuration: firstspike.toml(5).", ".TP"]
    lines += [".I /usr/share/firstspike/models", "Models that came with firstspike.", ".TP"]
    lines += [".I /var/lib/firstspike", "What the service keeps, and accelerators' environments.", ".TP"]
    lines += [".I /run/firstspike", "Its sockets: members of the group firstspike\\-clients may subscribe."]
    lines += [".SH SEE ALSO", "firstspike.toml(5), systemctl(1), journalctl(1), /usr/share/doc/firstspike"]
    return "\n".join(lines) + "\n"


def keys(model: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    """The keys of a section."""
    for name, info in model.model_fields.items():
        yield info.alias or name, info


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "no default"
    value = info.default
    if value is None:
        return "default: none"
    shown = str(value).lower() if isinstance(value, bool) else f'"{value}"' if isinstance(value, str) else str(value)
    return f"default: {shown}"


def _section(title: str, model: type[BaseModel], intro: str = "") -> list[str]:
    lines = [f".SS [{roff(title)}]", roff(intro or (model.__doc__ or "").split("\n")[0])]
    for name, info in keys(model):
        what = f"{info.description} ({_default(info)})" if info.description else _default(info)
        lines += [".TP", f".B {roff(name)}", roff(what)]
    return lines


def configuration() -> str:
    """firstspike.toml(5)."""
    lines = header("firstspike.toml", 5, "configuration of firstspike")
    lines += [".SH DESCRIPTION", "TOML. Later layers win: the file, those of conf.d beside it in order of name,"]
    lines += [
        roff("FIRSTSPIKE__SECTION__KEY in the environment, --set section.key=value."),
        "An unknown key is an error.",
    ]
    lines += [".B firstspike check", "says what is wrong, and where each value came from.", ".SH SECTIONS"]
    for name, info in Config.model_fields.items():
        model = info.annotation
        if isinstance(model, type) and issubclass(model, BaseModel) and name != "source":
            lines += _section(name, model, f"The section [{name}].")
    known = ", ".join(plugins.names("sources"))
    lines += [".SS [source]", ".TP", ".B kind", roff(f"where events come from: {known}")]
    for name in plugins.names("sources"):
        lines += _section(f"source.{name}", plugins.load("sources", name).Options)
    for name in plugins.names("backends"):
        lines += _section(f"backend.{name}", plugins.load("backends", name).Options, f"The back end {name}.")
    lines += [".SH SEE ALSO", "firstspike(1), /usr/share/doc/firstspike/config.toml"]
    return "\n".join(line for line in lines if line.strip()) + "\n"


BASH = """\
# bash completion for firstspike
_firstspike() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} word command=
    COMPREPLY=()
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        case "$command $word" in
@known@
        esac
    done
    case $previous in
        --config|--model|--out) compopt -o filenames; COMPREPLY=($(compgen -f -- "$current")); return ;;
    esac
    local words=
    case $command in
@words@
    esac
    COMPREPLY=($(compgen -W "$words" -- "$current"))
    if [[ -n $command && $current != -* ]]; then compopt -o filenames; COMPREPLY+=($(compgen -f -- "$current")); fi
}
complete -F _firstspike firstspike
"""


def completion() -> str:
    """For bash: commands and their options."""
    found = commands()
    top = [name for name in found if " " not in name]
    words = {"": [*top, "--version", "--help"]}
    for name, parser in found.items():
        inner = [other.rpartition(" ")[2] for other in found if other.rpartition(" ")[0] == name]
        words[name] = [*inner, *(option for action in parser._actions for option in action.option_strings)]
    steps = {name.rpartition(" ")[0]: [] for name in found}
    for name in found:
        before, _, last = name.rpartition(" ")
        steps[before].append(last)
    known = []
    for before, lasts in steps.items():
        alternatives = "|".join(f'"{before} {last}"' for last in lasts)
        known.append(f'            {alternatives}) command="${{command:+$command }}$word" ;;')
    listed = [f'        "{name}") words="{" ".join(dict.fromkeys(some))}" ;;' for name, some in words.items()]
    return BASH.replace("@known@", "\n".join(known)).replace("@words@", "\n".join(listed))


def main(folder: Path) -> None:
    """Write all three."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "firstspike.1").write_text(program(), encoding="utf-8")
    (folder / "firstspike.toml.5").write_text(configuration(), encoding="utf-8")
    (folder / "firstspike.bash").write_text(completion(), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
