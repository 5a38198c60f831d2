"""What ``farm submit`` is given: a function by name, and its arguments as words of a shell."""

import importlib
import json
import os
import re
import sys
from collections.abc import Callable
from difflib import get_close_matches
from types import ModuleType
from typing import Any

import typer

from farm.cli.exitcodes import TaskFailed
from farm.imports import importing_for_the_farm

__all__ = ["find_function", "parse_arguments"]

KEYWORD = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)


def find_function(reference: str) -> Callable[..., Any]:
    """The function that ``module:function`` names, looked for in the current folder first.

    Raises ``BadParameter`` if the reference is wrong, ``TaskFailed`` if its module cannot be
    imported because of what stands in it.
    """
    module_name, separator, path = reference.partition(":")
    if not (separator and module_name and path):
        raise typer.BadParameter(
            f"{reference!r} is no function; write MODULE:FUNCTION, for instance math:factorial"
        )
    found: Any = _import(module_name)
    for name in path.split("."):
        if not hasattr(found, name):
            near = get_close_matches(name, [one for one in dir(found) if one[0] != "_"], 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise typer.BadParameter(f"{module_name!r} has no {path!r}{hint}")
        found = getattr(found, name)
    if not callable(found):
        raise typer.BadParameter(f"{reference!r} is {type(found).__name__}, not a function")
    return found  # type: ignore[no-any-return]


def _import(name: str) -> ModuleType:
    folder = os.getcwd()  # noqa: PTH109 - sys.path holds texts
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        with importing_for_the_farm():
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # Only a missing module of the reference itself is a slip of the command line.
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise TaskFailed(f"{name!r} cannot be imported: {error}") from error
        hint = f"; write {name[:-3]!r}, without .py" if name.endswith(".py") else ""
        raise typer.BadParameter(
            f"there is no module {error.name!r} in {folder} or where Python looks{hint}"
        ) from None
    except Exception as error:
        raise TaskFailed(f"{name!r} cannot be imported: {type(error).__name__}: {error}") from error


def parse_arguments(words: list[str]) -> tuple[list[Any], dict[str, Any]]:
    """Positional and keyword arguments; each value is JSON if it can be, else text.

    ``n=3`` is a keyword. A word that begins with a dash must be a number: anything else is more
    likely a misspelt option, and can be written as JSON: ``'"-x"'``.
    """
    positional: list[Any] = []
    keywords: dict[str, Any] = {}
    for word in words:
        if match := KEYWORD.fullmatch(word):
            if match[1] in keywords:
                raise typer.BadParameter(f"the argument {match[1]!r} is given twice")
            keywords[match[1]] = _value(match[2])
            continue
        value = _value(word)
        if word.startswith("-") and isinstance(value, str):
            raise typer.BadParameter(
                f"no such option: {word}; if it is an argument, write it as JSON: '\"{word}\"'"
            )
        positional.append(value)
    return positional, keywords


def _value(word: str) -> Any:
    try:
        return json.loads(word)
    except (ValueError, RecursionError):
        return word
