"""Resources and labels as people write them, and what is refused."""

import math

import pytest

from farm.client.options import Settings, merge
from farm.errors import ConfigError
from farm.protocol.messages import Template
from farm.resources import (
    amount_text,
    check_resources,
    label_table,
    label_texts,
    parse_resources,
    thousandths,
)


def test_amounts_are_numbers_by_name():
    found = check_resources({"memory": "4GB", "gpu": 2, "licence": 0.5}, "resources")
    assert list(found.items()) == [("gpu", 2.0), ("licence", 0.5), ("memory", 4e9)]


@pytest.mark.parametrize(
    "wrong",
    [
        *({"gpu": value} for value in (-1, 0, 0.5, True, "1", None, math.nan, math.inf)),
        *({"memory": value} for value in (-1, 0, 0.5, "much", "-1GB", True, math.nan)),
        *({"slots": value} for value in (0, 1.5, False)),
        *({"licence": value} for value in (-1, 0, 0.0001, 1.00005, True, "1", math.nan, 1e16)),
    ],
)
def test_what_can_be_no_amount_is_named(wrong):
    (name,) = wrong
    with pytest.raises(ConfigError, match=rf"resources has {name}=.*expected a"):
        check_resources(wrong, "resources")


@pytest.mark.parametrize("name", ["", "a b", "1st", "x" * 65, 3])
def test_what_can_be_no_name_is_named(name):
    with pytest.raises(ConfigError, match="can be no resource"):
        check_resources({name: 1}, "resources")


def test_a_host_may_have_none_and_says_its_slots_elsewhere():
    assert check_resources({"gpu": 0, "memory": 0}, "it", of_host=True) == {"gpu": 0, "memory": 0}
    with pytest.raises(ConfigError, match="a setting of its own"):
        check_resources({"slots": 4}, "resources", of_host=True)


def test_hosts_are_told_by_words():
    found = parse_resources(["gpu=2", "memory=32GB", "licence = 0.5"], "--resource")
    assert found == {"gpu": 2.0, "licence": 0.5, "memory": 32e9}
    for text, says in (("gpu", "NAME=AMOUNT"), ("gpu=x", "a whole number"), ("=2", "NAME=AMOUNT")):
        with pytest.raises(ConfigError, match=says):
            parse_resources([text], "--resource")
    with pytest.raises(ConfigError, match="says 'gpu' twice"):
        parse_resources(["gpu=1", "gpu=2"], "--resource")


def test_labels_are_words_some_with_a_value():
    table = label_table(["zone=a", "ssd"], "labels")
    assert table == {"ssd": "", "zone": "a"}
    assert label_texts(table) == {"ssd", "zone=a"}
    with pytest.raises(ConfigError, match="says 'zone' twice"):
        label_table(["zone=a", "zone=b"], "labels")
    for wrong in ("ssd", [""], ["a b"], [3], 7):
        with pytest.raises(ConfigError, match="labels"):
            label_table(wrong, "labels")


def test_sums_of_amounts_are_exact():
    assert sum([thousandths(0.1)] * 10) == thousandths(1.0)


def test_amounts_are_written_as_they_are_said():
    assert amount_text("memory", 32e9) == "memory=32GB"
    assert amount_text("gpu", 2.0) == "gpu=2"
    assert amount_text("licence", 0.25) == "licence=0.25"


# ---------------------------------------------------------------- options


def options(**said):
    return merge(Settings(), said).template


def test_options_travel_in_order():
    template = options(resources={"memory": "2GB", "gpu": 1}, labels=["ssd", "a", "ssd"])
    assert template.resources == (("gpu", 1.0), ("memory", 2e9))
    assert template.labels == ("a", "ssd")


def test_one_slot_is_what_every_task_has():
    assert options(resources={"slots": 1}).resources == ()
    assert options(resources={"slots": 2}).resources == (("slots", 2.0),)


def test_none_takes_needs_back_and_keeps_those_of_the_queue_away():
    settings = merge(Settings(), {"resources": {"gpu": 1}, "labels": ["ssd"]})
    template = merge(settings, {"resources": None, "labels": None}).template
    assert (template.resources, template.labels) == ((), ())
    assert set(template.explicit) == {"resources", "labels"}
    assert template != Template()


def test_an_option_that_is_misspelt_is_named():
    with pytest.raises(TypeError, match="did you mean 'resources'"):
        options(resource={"gpu": 1})
    with pytest.raises(ConfigError, match="resources has gpu=-1"):
        options(resources={"gpu": -1})
