"""How many different values: HyperLogLog.

P. Flajolet and others, "HyperLogLog: the analysis of a near-optimal cardinality estimation
algorithm" (2007); the estimate is that of O. Ertl, "New cardinality estimation algorithms for
HyperLogLog sketches" (2017), which needs no corrections by range.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from farm.errors import ConfigError
from farm_scheduler.aggregates.arrays import as_arrow, as_numpy, is_there
from farm_scheduler.aggregates.measures.base import (
    Columns,
    Grouped,
    Measure,
    Values,
    flat,
    listed,
    spelled,
)
from farm_scheduler.aggregates.measures.hashing import hash_texts

__all__ = ["Distinct"]

HASH_BITS = 64
RANK_BITS = 6
STATE_BITS = 18 + RANK_BITS
"""Of the greatest register and its rank."""


@dataclass(frozen=True)
class Distinct(Measure):
    """How many different values a column has, NULL not counted, by HyperLogLog.

    The error is relative, one standard deviation: 1.04 / sqrt(2 ** precision), 0.8 % for 14. States
    are the registers that are not 0, as numbers ``register * 64 + rank``: few for few values. Any
    split of the rows in any order gives the same state, byte for byte.
    """

    column: str
    precision: int = 14
    FORMAT: ClassVar[int] = 3

    def check(self) -> None:
        """The precision is 4 to 18."""
        super().check()
        if not isinstance(self.precision, int) or not 4 <= self.precision <= 18:  # noqa: PLR2004
            raise ConfigError(f"{self}: precision must be 4 to 18")

    def lift_groups(self, rows: Grouped, columns: Columns) -> pa.Table:
        """The greatest rank of each register: how many bits, up to the first that is set."""
        last = (1 << self.precision) - 1
        g, texts = spelled(rows, self.column, columns)
        h = hash_texts(texts)
        rest = h >> np.uint64(self.precision)
        lowest = rest & (~rest + np.uint64(1))  # a power of two, of which a float has the exponent
        rank = np.where(rest == 0, HASH_BITS - self.precision + 1, np.frexp(lowest)[1])
        register = h & np.uint64(last)
        return _greatest(g, register << np.uint64(RANK_BITS) | rank.astype(np.uint64), rows.size)

    def merge_groups(self, states: Grouped) -> pa.Table:
        """The greater rank of each register."""
        g, (values,) = flat(states, ["s0"])
        return _greatest(g, as_numpy(values), states.size)

    def finish(self, states: pa.Table, columns: Columns) -> Values:
        """Whole numbers, and the relative error of each."""
        lists = states.column("s0").combine_chunks()
        count = len(lists)
        registers, ranks = 1 << self.precision, HASH_BITS - self.precision + 2
        sizes = np.diff(as_numpy(lists.offsets)) if count else np.zeros(0, np.int64)
        sizes = np.where(is_there(lists), sizes, 0)
        ranked = as_numpy(lists.flatten()) & ((1 << RANK_BITS) - 1)
        owner = np.repeat(np.arange(count), sizes)
        found = np.bincount(owner * ranks + ranked, minlength=count * ranks).reshape(count, ranks)
        found = found.astype(np.float64)
        found[:, 0] = registers - sizes
        estimate = np.rint(_estimates(found, registers)).astype(np.int64)
        error = np.where(estimate > 1, 1.04 / np.sqrt(registers), 0.0)
        return Values(as_arrow(estimate), as_arrow(error))


def _greatest(g: "np.ndarray[Any, Any]", values: "np.ndarray[Any, Any]", count: int) -> pa.Table:
    """The greatest of the numbers of each register of each group."""
    packed = (g.astype(np.uint64) << np.uint64(STATE_BITS)) | values
    packed.sort()
    registers = packed >> np.uint64(RANK_BITS)
    packed = packed[np.append(registers[1:] != registers[:-1], True)[: len(packed)]]
    kept = as_arrow((packed & np.uint64((1 << STATE_BITS) - 1)).astype(np.uint32))
    (lists,) = listed((packed >> np.uint64(STATE_BITS)).astype(np.int64), [kept], count)
    return pa.table({"s0": lists})


def _estimates(found: "np.ndarray[Any, Any]", registers: int) -> "np.ndarray[Any, Any]":
    """Estimates by how many registers have each rank (Ertl 2017, algorithm 6)."""
    last = found.shape[1] - 1
    z = registers * _tau(1 - found[:, last] / registers)
    for rank in range(last - 1, 0, -1):
        z = 0.5 * (z + found[:, rank])
    with np.errstate(divide="ignore"):
        z += registers * _sigma(found[:, 0] / registers)
        return np.asarray(registers / (2 * np.log(2)) * registers / z)


def _sigma(x: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """X + sum over k of x ** (2 ** k) * 2 ** (k - 1); infinite for 1, an empty sketch."""
    full = x >= 1
    power, weight = np.where(full, 0.0, x), 1.0
    total = power.copy()
    for _ in range(64):
        power = power * power
        total += power * weight
        weight *= 2
        if not power.any():
            break
    return np.where(full, np.inf, total)


def _tau(x: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """(1 - x - sum over k of (1 - x ** (2 ** -k)) ** 2 * 2 ** -k) / 3; 0 for 0 and 1."""
    power, weight = x.copy(), 1.0
    total = 1 - x
    for _ in range(64):
        power = np.sqrt(power)
        weight *= 0.5
        term = (1 - power) ** 2 * weight
        total = total - term
        if not term.any():
            break
    return np.where((x == 0) | (x == 1), 0.0, total / 3)
