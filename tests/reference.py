"""Writes docs/reference/commands.md and configuration.md from the code: python -m tests.reference

A test holds the files to what this makes of the code.
"""

import inspect
import re
from typing import get_args, get_type_hints

import msgspec
from typer.models import ArgumentInfo, OptionInfo

from farm.cli.exitcodes import ExitCode
from farm.cli.main import ORDER, app
from farm.config import SECTIONS, HostConfig, QueueConfig, settings
from farm_workers.launchers.hosts import entry_settings
from tests.conftest import REPOSITORY

FOLDER = REPOSITORY / "docs" / "reference"

COMMANDS_INTRO = """\
# Commands

The answer of a command goes to stdout, everything else to stderr. With `--json` the answer is one
JSON document, and an error is one on stderr: `{"error": …, "kind": …, "exit_code": …}`. On a
terminal, long work has a progress bar; in a pipe it is a few plain lines.

These options follow any command: `--json`, `--quiet` (`-q`) for the bare answer, `--config FILE`
for settings instead of the file that `FARM_CONFIG` names, `--debug` to see where an error comes
from, `--help` (`-h`). Times are seconds, or text such as `250ms`, `30s`, `5m`, `2h`, `7d`.
"""

SETTINGS_INTRO = """\
# Configuration

Nothing has to be configured. What can be is taken, key by key, from the first of these places that
has it:

1. flags of the command line, arguments of `farm.Client(...)`
2. the variable of the environment; an empty one counts as not set
3. the file that `--config` or `FARM_CONFIG` names; it must exist
4. `farm.toml` in the current folder
5. the user's file: `$XDG_CONFIG_HOME/farm/farm.toml`, by default `~/.config/farm/farm.toml`
6. the system's file: `/etc/farm/farm.toml`
7. the default

`farm config` lists the values that count and where each comes from. A key that does not exist, or
a value of the wrong kind, is an error that names the file, the key and what would be right. Times
are seconds, or text such as `"250ms"`, `"30s"`, `"5m"`, `"2h"`, `"7d"`; sizes are bytes, or text
such as `"512MiB"`, `"4GiB"`. In variables, lists are words separated by commas.

Ready-made files are in [configs/](../../configs/).
"""

QUEUES_INTRO = """\
## `[queues.NAME]`

The policy of one queue, in files only. A queue exists when it has such a section, be it empty;
`default` always does. What is not said has no limit. `farm queues set` changes most of it while the
farm runs.

```toml
[queues.mail]
weight = 2
rate = 20              # tasks a second
max_running_per_key = 1

[queues.mail.options]  # of tasks that do not say otherwise
retries = 3
time_limit = "30s"
```
"""

HOSTS_INTRO = """\
## The file of `farm launch ssh`

A file of its own, often `hosts.toml`, with a table `[hosts.NAME]` for each host, and `[defaults]`
for what is the same for many. What a host says of itself counts; `environment` and `resources` are
added to those of the defaults. Paths of this machine (`identity`, `token_file`) are seen from the
file's folder. The keys of `[host]` are here, too, but `name`, which is that of the table.

```toml
[defaults]
address = "tcp://10.0.0.1:7070" # the farm, as the hosts reach it
user = "farm"
venv = "/opt/farm"              # a virtual environment there, with compute-farm in it

[hosts.north]

[hosts.south]
ssh = "10.0.0.12"
slots = 16
labels = ["zone=b"]
```
"""

SHARED = {"as_json", "quiet", "settings_file", "debug", "context"}


def commands() -> str:
    """The reference of the command line."""
    rows = [f"| {code.value} | `{code.name.lower()}` | {code.meaning} |" for code in ExitCode]
    codes = ["## Exit codes", "", "| code | kind | meaning |", "| ---: | --- | --- |", *rows, ""]
    found = [(one.name, one) for one in app.registered_commands]
    for group in (one.typer_instance for one in app.registered_groups):
        name = group.info.name
        if group.registered_callback is not None:  # what it does without a second word
            found.append((name, group.registered_callback))
        found += [(f"{name} {one.name}", one) for one in group.registered_commands]
    found.sort(key=lambda one: ORDER.index(one[0].partition(" ")[0]))
    return "\n".join([COMMANDS_INTRO, *(_command(*one) for one in found), *codes])


def _command(name, one):
    parameters = [
        (parameter, *get_args(parameter.annotation)[:2])
        for parameter in inspect.signature(one.callback).parameters.values()
        if parameter.name not in SHARED
    ]
    arguments = [info for _, _, info in parameters if isinstance(info, ArgumentInfo)]
    rows = [f"| `{info.metavar}` | {info.help} |" for info in arguments]
    rows += [
        f"| {_names(parameter, kind, info)} | {info.help}{_default(parameter)} |"
        for parameter, kind, info in parameters
        if isinstance(info, OptionInfo)
    ]
    title = " ".join(["farm", name, *(info.metavar for info in arguments)])
    lines = [f"## `{title}`", "", _prose(inspect.getdoc(one.callback)), ""]
    if rows:
        lines += ["| | |", "| --- | --- |", *rows, ""]
    examples = [
        line.replace("\\[", "[") for line in one.epilog.split("\n\n") if line.startswith("$ ")
    ]
    return "\n".join([*lines, "```console", *examples, "```", ""])


def _names(parameter, kind, info):
    # Typer takes the first name for the default, as it was before there was Annotated.
    first = info.default if isinstance(info.default, str) else None
    names = [first or f"--{parameter.name.replace('_', '-')}", *(info.param_decls or [])]
    written = ", ".join(f"`{name}`" for name in names)
    if kind is bool:
        return written
    metavar = info.metavar or ("N" if int in (kind, *get_args(kind)) else "TEXT")
    return f"{written} `{metavar}`".replace("|", "\\|")  # the table has bars of its own


def _default(parameter):
    quiet = parameter.default in {None, False, inspect.Parameter.empty}
    return "" if quiet else f" Default: {parameter.default}."


def _prose(text):
    return re.sub(r"\[/?bold\]", "", text)


def configuration() -> str:
    """The reference of the settings."""
    parts = [SETTINGS_INTRO]
    for section, struct in SECTIONS.items():
        doc = (struct.__doc__ or "").split(": ", 1)[1]
        rows = [
            f"| `{one.key}` | `{one.variable}` | {_value(one)} | {one.description}. |"
            for one in settings()
            if one.section == section
        ]
        parts.append(
            f"## `[{section}]`\n\n{doc[0].upper()}{doc[1:]}\n\n"
            "| key | variable | default | |\n| --- | --- | --- | --- |\n" + "\n".join(rows) + "\n"
        )
    return "\n".join([*parts, queues(), hosts()])


def queues():
    """The sections of which there may be any number."""
    rows = []
    for field in msgspec.structs.fields(QueueConfig):
        hint = get_type_hints(QueueConfig, include_extras=True)[field.name]
        unset = field.default is msgspec.NODEFAULT or field.default is None
        default = "" if unset else f"`{field.default!r}`"
        rows.append(f"| `{field.name}` | {default} | {get_args(hint)[1].description}. |")
    table = "| key | default | |\n| --- | --- | --- |\n" + "\n".join(rows)
    return f"{QUEUES_INTRO}\n{table}\n"


def hosts():
    """The file of a launcher."""
    known = {field.name for field in msgspec.structs.fields(HostConfig)}
    rows = [
        f"| `{key}` | {_value(one)} | {one.description}. |"
        for key, one in entry_settings("hosts").items()
        if key not in known
    ]
    table = "| key | default | |\n| --- | --- | --- |\n" + "\n".join(rows)
    return f"{HOSTS_INTRO}\n{table}\n"


def _value(setting):
    value = setting.default
    if setting.kind == "duration":
        days, rest = divmod(value, 86_400)
        return f'`"{days:.0f}d"`' if days and not rest else f'`"{value:g}s"`'
    if setting.kind == "size":
        if not value:
            return "`0`"
        unit, shift = ("GiB", 30) if value >= 1 << 30 else ("MiB", 20)
        return f'`"{value >> shift}{unit}"`'
    return f"`{value!r}`".replace("'", '"')


FILES = {"commands.md": commands, "configuration.md": configuration}


def main() -> None:
    """Write the files."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, make in FILES.items():
        (FOLDER / name).write_text(make(), "utf-8")


if __name__ == "__main__":
    main()
