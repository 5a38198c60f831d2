"""What code means, as a hash: of its text, normalised, for pickles differ between processes."""

import ast
import hashlib
import inspect
import textwrap
from typing import TYPE_CHECKING, Any

from farm.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["code_hash", "hash_of"]


def hash_of(*parts: bytes | str) -> str:
    """A hash of some texts, in order; which text ends where is part of it."""
    found = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        found.update(len(data).to_bytes(8, "big"))
        found.update(data)
    return found.hexdigest()


def code_hash(code: "type[Any] | Callable[..., Any]") -> str:
    """A hash of the source of a class or function; comments, layout and docstrings do not count.

    Raises ``ConfigError`` if there is no source, as for what was typed at a prompt.
    """
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(code)))
    except (OSError, TypeError, SyntaxError) as error:
        name = getattr(code, "__qualname__", repr(code))
        raise ConfigError(
            f"{name} has no source that can be read ({error}), so a change of it would go unseen; "
            "define it in a module"
        ) from error
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            _drop_docstring(node)
    return hash_of(ast.dump(tree))


def _drop_docstring(node: "ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef") -> None:
    match node.body:
        case [ast.Expr(ast.Constant(str())), *_]:
            node.body[0] = ast.Pass()
