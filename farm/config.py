"""Settings: what may be set, and the value that counts.

A value is taken from the first of these places that has it:

1. flags: what a command line or a call says
2. variables of the environment, such as ``FARM_ADDRESS``; ``settings()`` has all names
3. the file that ``FARM_CONFIG`` (or ``--config``) names
4. ``farm.toml`` in the current folder
5. the user's file: ``$XDG_CONFIG_HOME/farm/farm.toml``, by default ``~/.config/farm/farm.toml``
6. the system's file: ``/etc/farm/farm.toml``
7. the default

Places are merged key by key. A file may leave anything out, but what it says must be right: an
unknown key or a wrong value is a ``ConfigError`` that names the file, the key and what would be
right. Nothing is read before ``load()`` is called, and nothing is kept after it.
"""

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from farm._config_queues import QueueConfig, QueueValue, read_queues
from farm._config_sections import (
    ClientConfig,
    CoordinatorConfig,
    GatewayConfig,
    HostConfig,
    LogConfig,
)
from farm.errors import ConfigError
from farm.model import DEFAULT_ADDRESS, byte_count, seconds
from farm.resources import check_labels, check_resources, label_table, parse_resources

__all__ = [
    "DEFAULT_ADDRESS",
    "ClientConfig",
    "Config",
    "CoordinatorConfig",
    "GatewayConfig",
    "HostConfig",
    "LogConfig",
    "QueueConfig",
    "Setting",
    "files",
    "load",
    "settings",
]

SYSTEM_FILE = Path("/etc/farm/farm.toml")

OTHER_VARIABLES = ("FARM_CONFIG", "FARM_TOKEN")
"""Those that are no settings: a secret stands in no file of settings, and in no list of them."""

NEAR_VARIABLE = 0.9
"""How much an unknown ``FARM_*`` variable must resemble one of ours to be an error.

Others are a stranger's: Kubernetes sets FARM_PORT and FARM_SERVICE_HOST in every container beside
a service that is called farm.
"""


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """All settings, and where each that is not a default comes from.

    ``origins`` maps ``"client.address"`` to what people call the place: a file's path, the name of
    a variable, or ``"flag"``. ``queues`` are those that files name; only files can.
    """

    client: ClientConfig = ClientConfig()
    coordinator: CoordinatorConfig = CoordinatorConfig()
    host: HostConfig = HostConfig()
    gateway: GatewayConfig = GatewayConfig()
    log: LogConfig = LogConfig()
    queues: dict[str, QueueConfig] = {}
    origins: dict[str, str] = {}

    @property
    def address(self) -> str:
        """The farm's, if it is said; empty where a token may say it, or the usual one counts."""
        return self.client.address if "client.address" in self.origins else ""


Section = ClientConfig | CoordinatorConfig | HostConfig | GatewayConfig | LogConfig
SECTIONS: dict[str, type[Section]] = {
    "client": ClientConfig,
    "coordinator": CoordinatorConfig,
    "host": HostConfig,
    "gateway": GatewayConfig,
    "log": LogConfig,
}


_EXPECTED = {
    "size": "a number of bytes, or text such as '512MiB', '4GiB'",
    "resources": "amounts by name: {gpu = 2, memory = '32GB'}; gpu=2,memory=32GB in a variable",
    "addresses": "an address, or a list of some: 'tcp://farm:7070'",
    "labels": "a list of labels: 'ssd', 'zone=a'",
}


class Setting(NamedTuple):
    """One thing that can be set: for ``load()``, for help and for the reference."""

    section: str
    key: str
    variable: str
    type: Any
    default: Any
    description: str
    kind: str
    """``duration``, ``size``, ``resources``, ``labels``, ``addresses``, or empty."""

    @property
    def path(self) -> str:
        """Its name as people write it: ``client.address``."""
        return f"{self.section}.{self.key}"

    @property
    def expected(self) -> str:
        """What a value must be, in words that fit after "expected"."""
        if self.kind == "duration":
            least = "more than 0" if get_args(self.type)[1].gt is not None else "0 or more"
            return f"a duration of {least}: seconds, or text such as '250ms', '30s', '5m'"
        if self.kind in _EXPECTED:
            return _EXPECTED[self.kind]
        base, meta, *_ = get_args(self.type)
        if get_origin(base) is Literal:
            return "one of " + ", ".join(repr(choice) for choice in get_args(base))
        if base in {int, bool}:
            return _expected_number(base, meta)
        if get_origin(base) is list:
            return "a list of texts"
        return "a text, not empty" if meta.min_length else "a text"

    @property
    def is_several(self) -> bool:
        """Whether it is written as words with commas where there is only text."""
        return get_origin(get_args(self.type)[0]) is list or self.kind == "resources"

    def read(self, value: Any, place: str, *, from_text: bool = False) -> Any:
        """The value as this setting has it; raises ``ConfigError`` naming place and key."""
        plain = value
        try:
            if self.kind == "duration":
                plain = seconds(value)
            elif self.kind == "size":
                plain = byte_count(value)
            elif self.kind == "addresses" and isinstance(value, list):
                plain = ",".join(map(str, value))
            elif from_text and self.is_several:
                plain = [part for part in re.split(r"[,\s]+", value) if part]
            if self.kind == "resources":
                several = isinstance(plain, list)
                plain = (parse_resources if several else _resources)(plain, self.path)
            elif self.kind == "labels":
                if self.section != "coordinator":  # a host has one of each name
                    label_table(plain, self.path)
                plain = list(check_labels(plain, self.path))
            return msgspec.convert(plain, self.type, strict=not from_text)
        except (ConfigError, msgspec.ValidationError) as error:
            if self.kind in {"resources", "labels"}:  # what is wrong is in a part of it
                raise ConfigError(f"{place}: {error}") from None
            raise ConfigError(
                f"{place}: {self.path} is {value!r}; expected {self.expected}"
            ) from None


def _expected_number(base: type, meta: Meta) -> str:
    if base is bool:
        return "true or false"
    return f"a whole number of {meta.ge} " + ("or more" if meta.le is None else f"to {meta.le}")


def _resources(value: Any, what: str) -> dict[str, float]:
    return check_resources(value, what, of_host=True)


def settings() -> list[Setting]:
    """Everything that can be set, in the order of the reference."""
    return [
        _setting(section, struct, field)
        for section, struct in SECTIONS.items()
        for field in msgspec.structs.fields(struct)
    ]


def _setting(section: str, struct: type[Section], field: msgspec.structs.FieldInfo) -> Setting:
    hint = get_type_hints(struct, include_extras=True)[field.name]
    meta: Meta = get_args(hint)[1]
    # A client's settings are what most people set: they get the short names.
    words = [field.name] if section == "client" else [section, field.name]
    default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    return Setting(
        section,
        field.name,
        "_".join(["FARM", *words]).upper(),
        hint,
        default,
        meta.description or "",
        (meta.extra or {}).get("kind", ""),
    )


def files(
    environ: Mapping[str, str], folder: Path, *, named: str | Path | None = None
) -> list[Path]:
    """The files that may hold settings, the strongest first; ``named`` overrides FARM_CONFIG."""
    named = named or environ.get("FARM_CONFIG") or None
    home = environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME") or "~") / ".config"
    return [
        *([Path(named).expanduser()] if named else []),
        folder / "farm.toml",
        Path(home).expanduser() / "farm" / "farm.toml",
        SYSTEM_FILE,
    ]


def load(
    flags: Mapping[str, Any] | None = None,
    *,
    named: str | Path | None = None,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Config:
    """The settings that count now.

    ``flags`` maps paths such as ``"client.address"`` to values; None means "not said". ``named`` is
    the file that a ``--config`` names. ``environ`` and ``folder`` stand in for this process's own.
    Raises ``ConfigError`` naming the place and the key of what is wrong.
    """
    environ = os.environ if environ is None else environ
    known = settings()
    named = named or environ.get("FARM_CONFIG") or None
    layers = [_from_flags(flags or {}, known), _from_environment(environ, known)]
    for path in files(environ, folder or Path.cwd(), named=named):
        must_exist = named is not None and path == Path(named).expanduser()
        layers.append(_from_file(path, known, must_exist=must_exist))
    values: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    origins: dict[str, str] = {}
    queues: dict[str, dict[str, Any]] = {}
    for layer in layers:
        for setting, value, place in layer:
            if setting.path in origins:
                continue
            if isinstance(setting, QueueValue):
                _add_to(queues, setting)
            else:
                values[setting.section][setting.key] = value
            if value is not None:
                origins[setting.path] = place
    sections = {name: SECTIONS[name](**values[name]) for name in SECTIONS}
    found = {**sections, "queues": queues, "origins": origins}
    return msgspec.convert(found, Config)


def _add_to(queues: dict[str, dict[str, Any]], found: QueueValue) -> None:
    """Add a value, or a queue of which nothing more is said, to those of the queues."""
    at = queues.setdefault(found.keys[0], {})
    for key in found.keys[1:-1]:
        at = at.setdefault(key, {})
    if len(found.keys) > 1:
        at[found.keys[-1]] = found.value


Found = tuple[Setting | QueueValue, Any, str]


def _from_flags(flags: Mapping[str, Any], known: list[Setting]) -> list[Found]:
    by_path = {setting.path: setting for setting in known}
    return [
        (by_path[path], by_path[path].read(value, "flag"), "flag")
        for path, value in flags.items()
        if value is not None
    ]


def _from_environment(environ: Mapping[str, str], known: list[Setting]) -> list[Found]:
    by_variable = {setting.variable: setting for setting in known}
    found: list[Found] = []
    for name, text in environ.items():
        if setting := by_variable.get(name):
            # An empty variable is how a shell or a compose file says "not set".
            if text:
                found.append((setting, setting.read(text, name, from_text=True), name))
        elif name.startswith("FARM_") and name not in OTHER_VARIABLES:
            near = get_close_matches(name, [*by_variable, *OTHER_VARIABLES], 1, NEAR_VARIABLE)
            if near:
                raise ConfigError(f"the variable {name} is no setting; did you mean {near[0]}?")
    return found


def _from_file(path: Path, known: list[Setting], *, must_exist: bool) -> list[Found]:
    try:
        text = path.read_text("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        if must_exist:
            raise ConfigError(
                f"{path}: no such file; it is named by --config or FARM_CONFIG"
            ) from None
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    try:
        tables = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # too many brackets, or digits
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    return list(_from_tables(tables, known, str(path)))


def _from_tables(tables: dict[str, Any], known: list[Setting], place: str) -> Iterator[Found]:
    by_path = {setting.path: setting for setting in known}
    for section, table in tables.items():
        if section == "queues":
            yield from ((value, value.value, place) for value in read_queues(table, place))
            continue
        if section not in SECTIONS:
            raise ConfigError(f"{place}: {_unknown_section(section, table, known)}")
        if not isinstance(table, dict):
            raise ConfigError(
                f"{place}: {section} is {table!r}; expected a table: write [{section}]"
            )
        for key, value in table.items():
            setting = by_path.get(f"{section}.{key}")
            if setting is None:
                keys = [one.key for one in known if one.section == section]
                raise ConfigError(f"{place}: [{section}] has no {key!r}; {_nearest(key, keys)}")
            yield setting, setting.read(value, place), place


def _unknown_section(name: str, table: Any, known: list[Setting]) -> str:
    if isinstance(table, dict):
        return f"there is no section [{name}]; {_nearest(name, [*SECTIONS, 'queues'])}"
    keys = {setting.key: setting.section for setting in known}
    near = get_close_matches(name, keys, 1)
    where = f"did you mean {near[0]!r} under [{keys[near[0]]}]?" if near else "it may be misspelt"
    return f"{name!r} stands outside every section; {where}"


def _nearest(word: str, words: list[str]) -> str:
    near = get_close_matches(word, words, 1)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(words)}"
