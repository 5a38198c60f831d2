"""The file that says which hosts there are and how each is reached: ``HOSTS.toml``.

A table ``[hosts.NAME]`` for each host, and ``[defaults]`` for what is the same for many. Whatever
a file says must be right: an unknown key or a wrong value is a ``ConfigError`` that names the
file, the key and what would be right.
"""

import re
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import msgspec
from msgspec import Meta

from farm.config import HostConfig, Setting
from farm.errors import ConfigError

__all__ = ["HostEntry", "entry_settings", "read_hosts"]

HOSTS_MAX = 2000
DURATION = {"kind": "duration"}
ENVIRONMENT = "environment"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
TARGET = re.compile(r"[A-Za-z0-9_.:\[\]%][A-Za-z0-9_.:\[\]%-]*")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class HostEntry(HostConfig, frozen=True, kw_only=True):
    """One host: how to reach it, what runs the agent there, and what the agent is told."""

    ssh: Annotated[
        str,
        Meta(description="Where `ssh` connects: a name, an address, or a `Host` of your ssh"
             " configuration; if empty, the name of the table"),
    ] = ""  # fmt: skip
    user: Annotated[str, Meta(description="Whom to log in as; if empty, as `ssh` would")] = ""
    port: Annotated[int, Meta(ge=0, le=65535, description="Its port; 0: as `ssh` would")] = 0
    identity: Annotated[
        str, Meta(description="The file with the private key; if empty, as `ssh` would")
    ] = ""
    ssh_options: Annotated[
        list[str],
        Meta(description='More for `ssh -o`: `["ProxyJump=gate"]`; they win over those of farm'),
    ] = []  # noqa: RUF012 - a Struct copies it
    venv: Annotated[
        str,
        Meta(description="A virtual environment there that has farm; `~/` is the home folder"),
    ] = ""
    python: Annotated[
        str,
        Meta(description="The Python there that has farm, instead of `venv`; if both are empty,"
             " `python3`"),
    ] = ""  # fmt: skip
    directory: Annotated[
        str,
        Meta(description="Where it runs; tasks find modules there; if empty, the home folder"),
    ] = ""
    environment: Annotated[
        dict[str, str],
        Meta(description='Variables of the agent and of its tasks: `{PYTHONPATH = "/srv/code"}`'),
    ] = {}  # noqa: RUF012 - a Struct copies it
    address: Annotated[
        str, Meta(description="The farm as this host reaches it; if empty, `client.address` here")
    ] = ""
    token_file: Annotated[
        str,
        Meta(
            description="A file on this machine with the host's token; if empty, `FARM_TOKEN`,"
            " the token or a file with one"
        ),
    ] = ""
    detach: Annotated[
        bool, Meta(description="It stays when the launcher has gone, until it is told to leave")
    ] = False
    linger: Annotated[
        float,
        Meta(ge=0, extra=DURATION, description="If it is not to stay: how long it waits for"
             " a launcher to come back before it drains"),
    ] = 60.0  # fmt: skip
    restarts: Annotated[
        int, Meta(ge=0, description="How often it is started anew in the time `restarts_within`")
    ] = 5
    restarts_within: Annotated[
        float, Meta(gt=0, extra=DURATION, description="The time that is meant")
    ] = 600.0

    @property
    def target(self) -> str:
        """What ``ssh`` is told to connect to."""
        return self.ssh or self.name


def entry_settings(section: str) -> dict[str, Setting]:
    """What can be said of a host, by key."""
    hints = get_type_hints(HostEntry, include_extras=True)
    found = {}
    for field in msgspec.structs.fields(HostEntry):
        if field.name == "name":
            continue
        hint = hints[field.name]
        meta: Meta = get_args(hint)[1]
        default = field.default
        if default is msgspec.NODEFAULT:
            default = field.default_factory()
        found[field.name] = Setting(
            section,
            field.name,
            "",
            hint,
            default,
            meta.description or "",
            (meta.extra or {}).get("kind", ""),
        )
    return found


def read_hosts(path: Path) -> list[HostEntry]:
    """The hosts of a file, in its order; raises ``ConfigError``."""
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except (ValueError, RecursionError) as error:  # too many brackets, or digits
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    for key in tables:
        if key not in {"defaults", "hosts"}:
            raise ConfigError(
                f"{path}: there is no {key!r}; {_nearest(key, ['defaults', 'hosts'])}"
            )
    hosts = _table(tables.get("hosts", {}), "hosts", path)
    if not 1 <= len(hosts) <= HOSTS_MAX:
        raise ConfigError(
            f"{path}: it names {len(hosts)} hosts; write [hosts.NAME] for each, {HOSTS_MAX} at most"
        )
    defaults = _values(tables.get("defaults", {}), "defaults", path)
    return [_entry(name, table, defaults, path) for name, table in hosts.items()]


def _entry(name: str, table: Any, defaults: dict[str, Any], path: Path) -> HostEntry:
    section = f"hosts.{name}"
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"{path}: {name!r} cannot be the name of a host: letters, digits, and - _ . inside,"
            " 64 at most"
        )
    own = _values(table, section, path)
    # Of the two ways to say the same, the host's own counts, and not that of the defaults.
    others = {"venv": "python", "python": "venv"}
    values = {key: value for key, value in defaults.items() if others.get(key) not in own} | own
    for key in ("environment", "resources"):
        values[key] = {**defaults.get(key, {}), **own.get(key, {})}
    return HostEntry(name=name, **values)


def _values(table: Any, section: str, path: Path) -> dict[str, Any]:
    """What a table says, checked."""
    known = entry_settings(section)
    values: dict[str, Any] = {}
    for key, value in _table(table, section, path).items():
        if key not in known:
            raise ConfigError(f"{path}: [{section}] has no {key!r}; {_nearest(key, [*known])}")
        if key == ENVIRONMENT:
            values[key] = _environment(value, f"{path}: {section}.{key}")
        else:
            values[key] = known[key].read(value, str(path))
        if why := _why_wrong(key, values[key]):
            raise ConfigError(f"{path}: {section}.{key} is {value!r}; {why}")
    if values.get("venv") and values.get("python"):
        raise ConfigError(f"{path}: [{section}] has venv and python; one of them says it")
    return values


def _why_wrong(key: str, value: Any) -> str:
    if key in {"ssh", "user"} and value and not TARGET.fullmatch(value):
        return "it has characters that cannot be there"
    if key == "ssh_options" and (bad := [one for one in value if not one.partition("=")[2]]):
        return f"{bad[0]!r} is no option of ssh: write NAME=VALUE"
    if isinstance(value, str) and not value.isprintable():
        return "it has characters that cannot be there"
    return ""


def _environment(value: Any, what: str) -> dict[str, str]:
    expected = 'variables by name, each a text: {PYTHONPATH = "/srv/code"}'
    if not isinstance(value, dict):
        raise ConfigError(f"{what} is {value!r}; expected {expected}")
    for name, text in value.items():
        if not (VARIABLE.fullmatch(name) and isinstance(text, str) and "\0" not in text):
            raise ConfigError(f"{what} has {name} = {text!r}; expected {expected}")
        if name == "FARM_TOKEN":
            raise ConfigError(
                f"{what} has FARM_TOKEN; tokens do not stand in this file: write"
                " token_file, or set FARM_TOKEN for the launcher"
            )
    return value


def _table(value: Any, section: str, path: Path) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: {section} is {value!r}; expected a table: write [{section}]")
    return value


def _nearest(word: str, words: list[str]) -> str:
    near = get_close_matches(word, words, 1)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(words)}"
