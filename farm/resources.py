"""What tasks need and hosts have: resources by name, and labels.

``slots``, ``memory`` (bytes) and ``gpu`` mean something to the farm; other names are counted, and
no more. Amounts are counted in thousandths, as whole numbers: sums of them are exact.
"""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from farm.errors import ConfigError
from farm.model import byte_count

__all__ = [
    "GPU",
    "KINDS",
    "LABEL",
    "MEMORY",
    "PACKAGE",
    "SLOTS",
    "Amounts",
    "amount_text",
    "check_labels",
    "check_resources",
    "label_table",
    "label_texts",
    "nearest_name",
    "parse_resources",
    "thousandths",
]

SLOTS, MEMORY, GPU = "slots", "memory", "gpu"
PACKAGE = "package."
"""Begins the labels that say which packages a host has."""
KINDS = (SLOTS, MEMORY, GPU)
"""The resources that every farm knows."""
WHOLE = (SLOTS, GPU)
"""Those of which there is no half."""
AMOUNT_MAX = 1e15
NAMES_MAX = 32
"""The most resources, or labels, of one task or host."""
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}(=[A-Za-z0-9_./:-]{0,64})?")

Amounts = tuple[tuple[str, float], ...]
"""Names and how much of each, in the order of the names."""


def thousandths(amount: float) -> int:
    """An amount as it is counted."""
    return round(amount * 1000)


def check_resources(value: Any, what: str, *, of_host: bool = False) -> dict[str, float]:
    """Resources by name, in order; raises ``ConfigError`` naming ``what`` for what can be none.

    A task needs more than nothing of each. A host may have none, and says its slots elsewhere.
    """
    if not isinstance(value, Mapping):
        raise ConfigError(f"{what} is {value!r}; write amounts by name: {{'memory': '4GB'}}")
    if len(value) > NAMES_MAX:
        raise ConfigError(f"{what} has {len(value)} names; there may be {NAMES_MAX}")
    found: dict[str, float] = {}
    for name in sorted(value, key=str):
        if not (isinstance(name, str) and NAME.fullmatch(name)):
            raise ConfigError(
                f"{what} has {name!r}, which can be no resource: letters, digits, and - _ . inside,"
                " a letter first, 64 at most"
            )
        if of_host and name == SLOTS:
            raise ConfigError(f"{what} has 'slots'; a host has a setting of its own for them")
        found[str.__str__(name)] = _amount(name, value[name], what, of_host=of_host)
    return found


def _amount(name: str, value: Any, what: str, *, of_host: bool) -> float:
    least = 0 if of_host else 1
    if name == MEMORY:
        expected = f"a number of bytes, {least} or more, or text such as '4GB', '512MiB'"
    elif name in WHOLE:
        expected = f"a whole number of {least} or more"
    else:
        expected = (
            f"a number of {(least and '0.001 or') or '0 or'} more, with three decimals at most"
        )
    wrong = ConfigError(f"{what} has {name}={value!r}; expected {expected}")
    amount: float
    if name == MEMORY and isinstance(value, str):
        try:
            amount = byte_count(value)
        except ConfigError:
            raise wrong from None
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong
    else:
        amount = value
    if not math.isfinite(amount) or not 0 <= amount <= AMOUNT_MAX or not (amount or of_host):
        raise wrong
    whole = name == MEMORY or name in WHOLE
    exact = amount == round(amount) if whole else abs(amount - round(amount, 3)) < amount * 1e-12
    if amount and not exact:
        raise wrong
    return float(amount)


def parse_resources(texts: Iterable[str], what: str) -> dict[str, float]:
    """What a host has, from texts such as ``gpu=2``, ``memory=32GB``; raises ``ConfigError``."""
    table: dict[str, Any] = {}
    for text in texts:
        name, equals, amount = (part.strip() for part in text.partition("="))
        if not (name and equals and amount):
            raise ConfigError(f"{what} is {text!r}; write NAME=AMOUNT: gpu=2, memory=32GB")
        if name in table:
            raise ConfigError(f"{what} says {name!r} twice")
        table[name] = amount if name == MEMORY else _number(amount)
    return check_resources(table, what, of_host=True)


def _number(text: str) -> Any:
    """The number that a text says; the text itself if it says none."""
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text


def check_labels(value: Any, what: str) -> tuple[str, ...]:
    """Labels, each once and in order; raises ``ConfigError`` naming ``what``."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ConfigError(f"{what} is {value!r}; write a list of texts: ['ssd', 'zone=a']")
    labels = list(value)
    if len(labels) > NAMES_MAX:
        raise ConfigError(f"{what} has {len(labels)} labels; there may be {NAMES_MAX}")
    for label in labels:
        if not (isinstance(label, str) and LABEL.fullmatch(label)):
            raise ConfigError(
                f"{what} has {label!r}, which can be no label: write 'ssd', or 'zone=a', with"
                " letters, digits, and - _ . inside"
            )
    return tuple(sorted(set(map(str.__str__, labels))))


def label_table(labels: Iterable[str], what: str) -> dict[str, str]:
    """A host's labels by what stands before the ``=``; raises ``ConfigError``."""
    table: dict[str, str] = {}
    for label in check_labels(labels, what):
        name, _, text = label.partition("=")
        if name in table:
            raise ConfigError(f"{what} says {name!r} twice; a host has one {name!r}")
        table[name] = text
    return table


def label_texts(table: Mapping[str, str]) -> frozenset[str]:
    """A host's labels as tasks name them."""
    return frozenset(f"{name}={text}" if text else name for name, text in table.items())


def amount_text(name: str, amount: float) -> str:
    """``gpu=2``, ``memory=4GB``: as people write it, to three decimals."""
    if name == MEMORY:
        for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
            if amount >= size:
                return f"{name}={round(amount / size, 3):g}{unit}"
    return f"{name}={round(amount, 3):.15g}"


def nearest_name(name: str, known: Iterable[str]) -> str:
    """That no host has such a resource, and which may have been meant."""
    names = sorted({*KINDS, *known})
    from difflib import get_close_matches  # noqa: PLC0415 - for the message only

    near = get_close_matches(name, names, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}"
    return f"no host of this farm has a resource {name!r}; {hint}"
