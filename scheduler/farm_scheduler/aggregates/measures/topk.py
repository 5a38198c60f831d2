"""The values that occur most often.

A state is the ``keep`` commonest values with their counts, and how often a value that is not among
them may have occurred. Merging adds counts, as for mergeable summaries of J. Misra and D. Gries
(P. Agarwal and others, "Mergeable summaries", 2012).
"""

from dataclasses import dataclass
from typing import ClassVar

from farm.errors import ConfigError
from farm_scheduler.aggregates.measures.base import Columns, Measure, Query, Values, given, spelled

__all__ = ["TopK"]


@dataclass(frozen=True)
class TopK(Measure):
    """The ``k`` commonest values of a column with their counts, the commonest first.

    A value is a list of ``{"value": …, "count": …}``; equal counts are in order of value. The error
    is how many more occurrences any value may have had than is said, or than the last one has: 0
    while no group has more than ``keep`` different values.
    """

    column: str
    k: int = 10
    keep: int = 10_000
    WIDTH: ClassVar[int] = 3

    def check(self) -> None:
        """K is at least 1, and at least as many are kept."""
        super().check()
        if not isinstance(self.k, int) or self.k < 1:
            raise ConfigError(f"{self}: k must be at least 1")
        if not isinstance(self.keep, int) or self.keep < self.k:
            raise ConfigError(f"{self}: keep must be at least k, {self.k}")

    def identity(self) -> list[object]:
        """How many are shown makes no difference to the states."""
        return ["TopK", self.FORMAT, self.column, self.keep]

    def lift_sql(self, columns: Columns) -> str:
        """Counts of all values."""
        name = given(self.column)
        return self._cut(
            f"SELECT g, {spelled(self.column, columns)} AS v, count(*) AS c FROM rows "  # noqa: S608
            f"WHERE {name} IS NOT NULL GROUP BY g, v",
            "SELECT DISTINCT g, 0::BIGINT AS e FROM counts",
        )

    def merge_sql(self) -> str:
        """Counts added."""
        return self._cut(
            "SELECT g, v, sum(c)::BIGINT AS c FROM (SELECT g, unnest(s0) AS v, unnest(s1) AS c "
            "FROM states) GROUP BY g, v",
            "SELECT g, sum(s2)::BIGINT AS e FROM states WHERE s2 IS NOT NULL GROUP BY g",
        )

    def _cut(self, counts: str, errors: str) -> str:
        """The commonest of each group; the count of the first that is left out is the error."""
        keep = self.keep
        return (
            f"WITH counts AS MATERIALIZED ({counts}), errors AS ({errors}), "  # noqa: S608
            "sizes AS (SELECT g, count(*) AS n FROM counts GROUP BY g), "
            "few AS (SELECT g, v, c FROM counts SEMI JOIN "
            f"(SELECT g FROM sizes WHERE n <= {keep}) USING (g)), "
            "many AS (SELECT g, v, c, "
            "row_number() OVER (PARTITION BY g ORDER BY c DESC, v) AS place "
            f"FROM counts SEMI JOIN (SELECT g FROM sizes WHERE n > {keep}) USING (g)), "
            "kept AS (SELECT * FROM few UNION ALL "
            f"SELECT g, v, c FROM many WHERE place <= {keep}), "
            f"out AS (SELECT g, c AS left_out FROM many WHERE place = {keep + 1}), "
            "lists AS (SELECT g, "
            "list(v ORDER BY c DESC, v) AS s0, list(c ORDER BY c DESC, v) AS s1 "
            "FROM kept GROUP BY g) "
            "SELECT g, s0, s1, e + coalesce(left_out, 0) AS s2 "
            "FROM lists JOIN errors USING (g) LEFT JOIN out USING (g)"
        )

    def finish(self, query: Query, columns: Columns) -> Values:
        """Lists of structs, and the error of the counts."""
        zipped = (
            f"list_transform(list_zip(s0, s1)[:{self.k}], lambda one: "
            "{'value': one[1], 'count': one[2]})"
        )
        found = query(f"SELECT {zipped} AS v, coalesce(s2, 0) AS e FROM states ORDER BY g")  # noqa: S608
        return Values(found.column(0), found.column(1))
