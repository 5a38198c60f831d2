"""Aggregates said in SQL: what merges is computed, what does not is refused with what does."""

import duckdb
import pytest

from farm.errors import ConfigError
from farm_scheduler import Aggregate
from farm_scheduler.aggregates.measures import Count, Distinct, Max, Mean, Min, Sum, Variance
from farm_scheduler.aggregates.sources import Files
from farm_scheduler.aggregates.sql import parse_query
from tests.unit.aggregates_helpers import Desk, write_lines


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path)
    yield desk
    desk.catalog.close()


@pytest.fixture
def source(tmp_path):
    for hour in range(3):
        rows = [
            {"time": f"2015-09-12T0{hour}:{at:02}:00Z", "channel": ("#en", "#DE")[at % 2],
             "added": at * (hour + 1), "robot": at % 3 == 0, "user": f"u{at % 7}"}
            for at in range(40)
        ]  # fmt: skip
        write_lines(tmp_path / f"edits/{hour}.json", rows)
    return Files(str(tmp_path / "edits/*.json"), time="time")


def test_every_aggregate_that_merges_is_a_measure():
    found = parse_query(
        "select channel, count(*), count(added), sum(added), avg(added) as mean, min(added), "
        "max(added) most, var_samp(added) v, var_pop(added) vp, approx_count_distinct(user) users"
    )
    assert found.by == ("channel",)
    assert found.measures == {
        "count": Count(), "count_added": Count("added"), "sum_added": Sum("added"),
        "mean": Mean("added"), "min_added": Min("added"), "most": Max("added"),
        "v": Variance("added"), "vp": Variance("added", sample=False), "users": Distinct("user"),
    }  # fmt: skip
    assert (found.where, found.columns) == ("", {})


@pytest.mark.parametrize("group", ["", "group by channel", "group by 1", "group by all"])
def test_group_by_may_say_what_is_selected(group):
    assert parse_query(f"select channel, count(*) from edits {group}").by == ("channel",)


QUERY = (
    "select lower(channel) as lower_channel, count(*) as n, avg(added) as mean, "
    "sum(added * 2 + 1) as odd, count(*) filter (where robot) as robots, "
    "sum(added) filter (where not robot) as typed, count_if(added > 20) as many, "
    "max(distinct added) as most, var_pop(added) as spread from edits where added > 3 "
    "and user <> 'it''s' group by lower_channel"
)


def test_the_answers_are_those_of_the_query(desk, source, tmp_path):
    edits = Aggregate.sql("edits", source, QUERY, every="1h", rollup=["1d"])
    assert not desk.build(edits).failures
    with duckdb.connect() as db:
        db.execute(f"CREATE TABLE edits AS SELECT * FROM read_json('{tmp_path}/edits/*.json')")
        wanted = db.sql(f"SELECT * FROM ({QUERY}) ORDER BY lower_channel").fetchall()
    rows = desk.snapshot("edits").table("day").drop(["day"]).to_pylist()
    for row, line in zip(rows, wanted, strict=True):
        *exact, spread = row.values()
        assert exact == list(line[:-1])
        assert spread == pytest.approx(line[-1])
    names = ["lower_channel", "n", "mean", "odd", "robots", "typed", "many", "most", "spread"]
    assert list(rows[0]) == names


def test_measures_may_be_added_to_those_of_the_query(desk, source):
    more = {"users": Distinct("user")}
    edits = Aggregate.sql("edits", source, "select channel, count(*)", measures=more, every="1h")
    desk.build(edits)
    assert {row["users"] for row in desk.snapshot("edits").table().to_pylist()} == {7}


def test_columns_may_name_the_table_and_parts_of_columns(desk, tmp_path):
    rows = [
        {"time": "2015-09-12T00:00:00Z", "who": {"name": n, "age": len(n)}} for n in ("a", "bb")
    ]
    write_lines(tmp_path / "a.json", rows)
    source = Files(str(tmp_path / "a.json"), time="time")
    query = (
        "select e.who.name as name, sum(who.age) as years, count(e.who) as n "
        "from people as e where e.who.age > 0 and age(e.time::date, e.time::date) is not null"
    )
    desk.build(Aggregate.sql("people", source, query))
    rows = desk.snapshot("people").table().drop(["hour"]).to_pylist()
    assert rows == [{"name": "a", "years": 1, "n": 1}, {"name": "bb", "years": 2, "n": 1}]


def test_another_condition_is_another_partition(desk, source):
    desk.build(Aggregate.sql("edits", source, "select count(*) as n where added > 3"))
    again = Aggregate.sql("edits", source, "select count(*) as n where added > 30")
    assert len(desk.build(again).plan.changes) == 3
    assert sum(desk.snapshot("edits").table().column("n").to_pylist()) == 9 + 24 + 29


def test_a_column_that_is_not_there_is_named(desk, source):
    wrong = Aggregate.sql("edits", source, "select count(*) as n where aded > 3")
    with pytest.raises(Exception, match="aded"):
        desk.build(wrong)


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("select count(distinct user)", r"count\(DISTINCT \"?user\"?\) does not merge.*Distinct"),
        ("select sum(distinct added)", "does not merge"),
        ("select median(added)", "does not merge; use measures=.*Quantiles"),
        ("select quantile_cont(added, 0.5)", "Quantiles"),
        ("select mode(page)", "TopK"),
        ("select stddev(added)", "var_samp"),
        ("select string_agg(page)", "Custom"),
        ("select first(page)", "Custom"),
        ("select round(avg(added), 2)", r"keep that, and compute when you read"),
        ("select sum(added + 1)", "has no name; write"),
        ("select lower(channel), count(*)", "has no name; write"),
        ("select count(*), count(*)", "two columns are called 'count'"),
        ("select channel", "aggregates nothing"),
        ("select *", "name the columns"),
        ("select count(*) over () from t", "does not merge"),
        ("select count(*) from a join b using (x)", "one table"),
        ("select count(*) from (select 1)", "one table"),
        ("with a as (select 1) select count(*) from a", "without WITH"),
        ("select count(*) union select 1", "UNION"),
        ("select count(*); select 1", "one plain SELECT"),
        ("select count(*) having count(*) > 1", "HAVING"),
        ("select channel, count(*) order by 1", "ORDER"),
        ("select channel, count(*) limit 1", "LIMIT"),
        ("select channel, count(*) group by page", "GROUP BY has"),
        ("select channel, page, count(*) group by channel", "GROUP BY has"),
        ("select (select 1) as x, count(*)", "a query in it"),
        ("select random() as r, count(*)", r"random\(\) is something else at each run"),
        ("select sum(added * random()) as r", "something else at each run"),
        ("select sum(added) filter (uuid() < 'a') as r", "something else at each run"),
        ("select count(*) where time > now() - interval 1 day", "something else at each run"),
        ("select current_date as today, count(*)", "something else at each run"),
        ("select age(time::timestamp) as a, count(*)", "something else at each run"),
        ("select unnest([1, 2]) as two, count(*)", "several rows of one"),
        ("select added + row_number() over () as x, count(*)", "of other rows as well"),
        ("select sum(sum(added) over ()) as x", "of other rows as well"),
        ("select count(*) where row_number() over () = 1", "of other rows as well"),
        ("select count(*) where sum(added) > 1", "is computed of sum"),
        ("select count(*) where channel in (select 'a')", "a query in it"),
        ("select count(*) from edits tablesample 10%", "without TABLESAMPLE"),
        ("select count(*) from edits at (version => 1)", "TABLESAMPLE or AT"),
        ("select channel, channel, count(*)", "by has 'channel' twice"),
        ("select channel, count(*) as channel", "measure 'channel' is called as a column"),
        ("select channel, count(*) as hour", "measure 'hour' is called as a column"),
        ("select user.name, count(*)", "has no name; write"),
        ("selec x", "cannot be parsed: syntax error"),
        ("drop table edits", "cannot be parsed"),
    ],
)
def test_what_does_not_merge_is_refused_with_what_does(source, query, why):
    with pytest.raises(ConfigError, match=rf"(?s)aggregate 'edits': .*{why}"):
        Aggregate.sql("edits", source, query)
