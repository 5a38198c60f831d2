"""A query of aggregates, as DuckDB parses it, taken apart into columns and measures that merge.

What does not merge is refused here, by name, with what to use instead.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

import duckdb

from farm.errors import ConfigError
from farm_scheduler.aggregates.measures import (
    Count,
    Distinct,
    Max,
    Mean,
    Measure,
    Min,
    Sum,
    Variance,
)

__all__ = ["Parsed", "parse_query"]

Node = dict[str, Any]
MEASURES: dict[str, Callable[[str], Measure]] = {
    "count": Count,
    **dict.fromkeys(("sum", "fsum", "kahan_sum", "sumkahan", "sum_no_overflow"), Sum),
    **dict.fromkeys(("avg", "mean", "favg"), Mean),
    "min": Min,
    "max": Max,
    **dict.fromkeys(("var_samp", "variance"), Variance),
    "var_pop": lambda column: Variance(column, sample=False),
    "approx_count_distinct": Distinct,
}
INSTEAD = {
    **dict.fromkeys(
        ("median", "quantile", "quantile_cont", "quantile_disc", "approx_quantile",
         "percentile_cont", "percentile_disc", "reservoir_quantile", "mad"), "Quantiles"),
    **dict.fromkeys(("mode", "approx_top_k"), "TopK"),
    **dict.fromkeys(
        ("stddev", "stddev_samp", "stddev_pop"), "var_samp or var_pop, and its root when you read"),
}  # fmt: skip
CLOCKS = {
    "now", "today", "ago", "transaction_timestamp", "get_current_time", "get_current_timestamp",
    "current_date", "current_time", "current_timestamp", "current_localtime",
    "current_localtimestamp", "localtime", "localtimestamp",
}  # fmt: skip
"""What is another at another time, be it written as a function or as a column."""
CLAUSES = {"having": "HAVING", "qualify": "QUALIFY", "sample": "SAMPLE"}


class Parsed(NamedTuple):
    """What a query says: keys, measures, the condition of rows, and columns to derive."""

    by: tuple[str, ...]
    measures: dict[str, Measure]
    where: str
    columns: dict[str, str]


def parse_query(text: str) -> Parsed:
    """Take a query apart. Raises ``ConfigError`` naming what cannot be kept up."""
    node = _select(text)
    where = node.get("where_clause")
    for one in (*node["select_list"], *([where] if where else [])):
        _refuse_unstable(one)
    if where:
        _refuse_nested(where, [where])
    by: list[str] = []
    measures: dict[str, Measure] = {}
    columns: dict[str, str] = {}
    for expression in node["select_list"]:
        if expression["class"] == "FUNCTION" and _function(expression) in _aggregates():
            name, measure = _measure(expression, columns)
            if name in measures:
                raise ConfigError(f"two columns are called {name!r}; say … AS another name")
            measures[name] = measure
        else:
            by.append(_key(expression, columns))
    _check_groups(node, by)
    if not measures:
        raise ConfigError("it aggregates nothing; write for instance select channel, count(*)")
    return Parsed(tuple(by), measures, "" if where is None else _text(where), columns)


def _select(text: str) -> Node:
    """The one plain SELECT that the text is."""
    found = _run("SELECT json_serialize_sql(?, skip_null := true, skip_empty := true)", text)
    if found["error"]:
        raise ConfigError(f"the query cannot be parsed: {found['error_message']}")
    statements = found["statements"]
    node: Node = statements[0]["node"] if len(statements) == 1 else {}
    if node.get("type") != "SELECT_NODE" or node.get("cte_map"):
        raise ConfigError("the query must be one plain SELECT, without WITH or UNION")
    table = node.get("from_table", {})
    if table.get("type") not in (None, "EMPTY", "BASE_TABLE"):
        raise ConfigError("the query must be of one table, which is the source; join in the source")
    if table.get("sample") or table.get("at_clause"):
        raise ConfigError("the query is of the whole source as it is, without TABLESAMPLE or AT")
    _unqualify(node, {str(table.get("table_name")), str(table.get("alias"))})
    for key, word in CLAUSES.items():
        if node.get(key):
            raise ConfigError(f"the query has {word}, which is for readers: filter what you read")
    for modifier in node.get("modifiers", ()):
        word = modifier["type"].removesuffix("_MODIFIER")
        raise ConfigError(f"the query has {word}, which is for readers: choose from what you read")
    return node


@cache
def _database() -> duckdb.DuckDBPyConnection:
    """One in memory, of one thread, kept: a new one takes 30 ms, and a query asks some five times.

    Each who asks has a cursor of it, for several threads may.
    """
    return duckdb.connect(config={"threads": 1})


def _ask(query: str, *arguments: str) -> list[Any]:
    with _database().cursor() as db:
        return db.execute(query, arguments).fetchall()


def _run(query: str, argument: str) -> Node:
    ((found,),) = _ask(query, argument)
    return dict(json.loads(found))


@cache
def _aggregates() -> frozenset[str]:
    """Every function of DuckDB that aggregates."""
    query = "SELECT DISTINCT function_name FROM duckdb_functions() WHERE function_type = ?"
    found = _ask(query, "aggregate")
    return frozenset({name for (name,) in found} | MEASURES.keys() | {"count_star"})


@cache
def _volatile() -> frozenset[str]:
    """Every function of DuckDB that gives another value each time."""
    query = "SELECT DISTINCT function_name FROM duckdb_functions() WHERE stability = 'VOLATILE'"
    return frozenset(name for (name,) in _ask(query)) - {"error", "stats", "vector_type"}


def _function(node: Node) -> str:
    return str(node.get("function_name", "")).lower()


def _arguments(node: Node) -> list[Node]:
    if "arguments" in node:  # since DuckDB 2
        return [one.get("expression", one) for one in node["arguments"]]
    return list(node.get("children", ()))


def _measure(node: Node, columns: dict[str, str]) -> tuple[str, Measure]:
    """An aggregate as a measure, and its name; derives a column where it is of an expression."""
    function, arguments, shown = _function(node), _arguments(node), _text(node)
    function = "count" if function == "count_star" else function
    if node.get("distinct") and function not in ("min", "max"):
        raise ConfigError(f"{shown} does not merge; use measures={{…: Distinct(…)}}")
    if function == "count_if":
        node, arguments = {**node, "filter": arguments[0]}, []
        function = "count"
    if function not in MEASURES:
        instead = INSTEAD.get(function)
        hint = f"use {instead}" if instead else "use a measure of your own, a Custom"
        if instead and instead[0].isupper():
            hint = f"use measures={{…: {instead}(…)}}"
        raise ConfigError(f"{shown} does not merge; {hint}")
    if len(arguments) > 1 or (node.get("order_bys") or {}).get("orders"):
        raise ConfigError(f"{shown} is more than a measure says; write {function}(column)")
    plain = _column(arguments[0]) if arguments else ""
    alias = node.get("alias") or (function if not arguments else f"{function}_{plain}")
    if (arguments and not plain) or node.get("filter"):
        if not node.get("alias"):
            raise ConfigError(f"{shown} has no name; write {shown} AS a name")
        plain = _derive(node, arguments, columns)
    return str(alias), MEASURES[function](plain) if plain else Count()


def _derive(node: Node, arguments: list[Node], columns: dict[str, str]) -> str:
    """The column that an aggregate is of: an expression, where its filter holds."""
    _refuse_nested(node, arguments)
    text = _text(arguments[0]) if arguments else "true"
    if node.get("filter"):
        text = f"CASE WHEN {_text(node['filter'])} THEN {text} END"
    name = f"{text} "  # no column of the source is called so
    columns[name] = text
    return name


def _key(node: Node, columns: dict[str, str]) -> str:
    """A column to group by."""
    if node["class"] == "STAR":
        raise ConfigError("select * aggregates nothing; name the columns to group by")
    _refuse_nested(node, [node])
    plain, alias = _column(node), str(node.get("alias", ""))
    if not alias and not plain:
        raise ConfigError(f"{_text(node)} has no name; write {_text(node)} AS a name")
    if not plain or (alias and alias != plain):
        columns[alias] = _text({**node, "alias": ""})
    return alias or plain


def _column(node: Node) -> str:
    """The name of a column; empty if it is none, or a part of one."""
    names = node["column_names"] if node.get("class") == "COLUMN_REF" else []
    return str(names[0]) if len(names) == 1 else ""


def _unqualify(node: Node, tables: set[str]) -> None:
    """Leave out the table before a column: the source has another name where it is read."""
    for one in _walk(node):
        names = one.get("column_names", ())
        if one.get("class") == "COLUMN_REF" and len(names) > 1 and names[0] in tables:
            del names[0]


def _refuse_nested(node: Node, inside: list[Node]) -> None:
    for one in (found for top in inside for found in _walk(top)):
        if one.get("class") == "SUBQUERY":
            raise ConfigError(f"{_text(node)} has a query in it; the source is one table")
        if one.get("class") == "WINDOW":
            raise ConfigError(f"{_text(node)} is of other rows as well, and does not merge")
        if one.get("class") == "FUNCTION" and _function(one) in _aggregates():
            raise ConfigError(
                f"{_text(node)} is computed of {_text(one)}; keep that, and compute when you read"
            )


def _refuse_unstable(node: Node) -> None:
    """What a row does not decide is another each time that a partition is read."""
    for one in _walk(node):
        name = _function(one) if one.get("class") == "FUNCTION" else _column(one).lower()
        alone = name == "age" and len(_arguments(one)) == 1  # as of now
        if name in CLOCKS or alone or (one.get("class") == "FUNCTION" and name in _volatile()):
            raise ConfigError(
                f"{_text(one)} is something else at each run; say it when you read, or have it as "
                "a column"
            )
        if name == "unnest" and one.get("class") == "FUNCTION":
            raise ConfigError(f"{_text(one)} makes several rows of one; do it in the source")


def _walk(value: Any) -> Iterator[Node]:
    if isinstance(value, Mapping):
        yield dict(value)
        for one in value.values():
            yield from _walk(one)
    elif isinstance(value, list):
        for one in value:
            yield from _walk(one)


def _check_groups(node: Node, by: list[str]) -> None:
    """GROUP BY, where there is one, must say what is selected."""
    groups = node.get("group_expressions")
    if not groups:
        return
    if len(node.get("group_sets", [[]])) > 1:
        raise ConfigError("grouping sets are several aggregates; define one for each")
    places = node["select_list"]
    found: set[str] = set()
    for one in groups:
        literal = (
            (one.get("literal") or one.get("value") or {}) if one["class"] == "CONSTANT" else {}
        )
        text = str(literal.get("text", literal.get("value", "")))
        is_place = text.isdigit() and 1 <= int(text) <= len(places)
        meant = places[int(text) - 1] if is_place else one
        found.add(str(meant.get("alias") or _column(meant) or _text(meant)))
    selected = set(by) | {_column(one) for one in places if one.get("alias") in by}
    if not found <= selected or not all(one in found or _aliased(one, places, found) for one in by):
        raise ConfigError(
            f"GROUP BY has {sorted(found)}, and the columns selected are {by}: they must be the "
            "same, or leave it out"
        )


def _aliased(name: str, places: list[Node], found: set[str]) -> bool:
    return any(one.get("alias") == name and (_column(one) or _text({**one, "alias": ""})) in found
               for one in places)  # fmt: skip


def _text(node: Node) -> str:
    """An expression as SQL."""
    bare = {key: value for key, value in node.items() if key != "alias"}
    template = _run("SELECT json_serialize_sql(?)", "SELECT 1")
    template["statements"][0]["node"]["select_list"] = [bare]
    ((found,),) = _ask("SELECT json_deserialize_sql(?)", json.dumps(template))
    return str(found).removeprefix("SELECT ")
