"""Whether an exception may be followed by another attempt: decided where its type is known."""

import sys

from farm.model import is_final
from farm.payload import qualified_name
from farm_workers.host_slices import Slice

__all__ = ["must_end"]


def must_end(error: BaseException, part: Slice) -> bool:
    """Whether ``retry_on`` and ``never_on`` of a slice forbid another attempt after this."""
    if not (part.retry_on or part.never_on):
        return False
    names = {qualified_name(base) for base in type(error).__mro__}
    names.update(name for name in (*part.retry_on, *part.never_on) if _is_alias(error, name))
    return is_final(names, part.retry_on, part.never_on)


def _is_alias(error: BaseException, name: str) -> bool:
    """Whether a name is one of the exception's types where users know it, not where it is made."""
    module, _, attribute = name.rpartition(".")
    found: object = getattr(sys.modules.get(module), attribute, None)
    return isinstance(found, type) and isinstance(error, found)
