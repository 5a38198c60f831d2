"""The environment of hosts: labels that tasks may ask for, and hosts that get no work."""

from farm.core.fingerprint import PACKAGES_MAX, host_labels, why_unusable
from farm.protocol import messages as m
from tests.unit.core_harness import Rig, group

NUMPY = {"numpy": "2.1.3"}
LINUX = "linux-x86_64"


def hello(**more):
    known = {"python": "3.11", "labels": {}} | more
    return m.HostHello(
        protocol=1, farm="0.1.0", instance=b"i", name="h", connection=1, slots=1, window=1,
        epoch_seen=0, store_seen=b"", commit_seen=0, claims=[], **known,
    )  # fmt: skip


def test_what_a_host_tells_becomes_labels():
    labels = host_labels(hello(platform=LINUX, packages=NUMPY, labels={"zone": "a", "ssd": ""}))
    assert labels == {
        "zone=a", "ssd", "python=3.11", "platform=linux-x86_64", "package.numpy",
        "package.numpy=2.1.3", "package.numpy=2.1", "package.numpy=2",
    }  # fmt: skip


def test_a_host_that_tells_nothing_has_its_own_labels_alone():
    assert host_labels(hello(python="", labels={"ssd": ""})) == {"ssd"}


def test_what_can_be_no_label_is_none():
    packages = {"a b": "1", "torch": "2.1.0+cu121", "x": "y" * 100}
    labels = host_labels(hello(python="", packages=packages))
    assert labels == {"package.torch", "package.torch=2", "package.torch=2.1", "package.x"}


def test_of_many_packages_some_are_looked_at():
    packages = {f"p{number}": "1" for number in range(10 * PACKAGES_MAX)}
    assert len(host_labels(hello(python="", packages=packages))) == 2 * PACKAGES_MAX


def test_why_a_host_gets_no_work():
    told = hello(packages=NUMPY)
    labels = host_labels(told)
    assert why_unusable(told, "3.11", ["package.numpy=2"], labels) == ""
    assert why_unusable(told, "3.12", [], labels).startswith(
        "it runs Python 3.11 and the farm 3.12"
    )
    why = why_unusable(told, "", ["package.numpy=1"], labels)
    assert "wants package.numpy=1 of its hosts" in why
    assert "has package.numpy=2.1.3;" in why
    assert "has nothing of the kind" in why_unusable(told, "", ["platform=darwin-arm64"], labels)


def test_a_host_without_what_every_host_must_have_gets_no_work_and_says_why():
    rig = Rig(host_labels=["package.numpy=2"])
    old = rig.host("old", packages={"numpy": "1.26.4"}, quiet=False)
    (welcome,) = [one for one in rig.take(old) if isinstance(one, m.HostWelcome)]
    assert "it has package.numpy=1.26.4" in welcome.unusable
    client = rig.client()
    rig.submit(client, group(1, 3))
    assert rig.grants(old) == []
    rig.take(client)
    rig.say(client, m.Query(1, "hosts", {}))
    ((row,),) = [one.data for one in rig.take(client) if isinstance(one, m.Answer)]
    assert (row["unusable"], row["packages"]) == (welcome.unusable, {"numpy": "1.26.4"})
    new = rig.host("new", packages=NUMPY)
    assert sum(grant.count for grant in rig.grants(new)) == 3


def test_tasks_that_ask_for_a_package_go_where_it_is():
    rig = Rig()
    bare, has = rig.host("bare"), rig.host("has", packages=NUMPY)
    client = rig.client()
    rig.submit(client, group(1, 2, template=m.Template(labels=("package.numpy=2.1",))))
    assert rig.grants(bare) == []
    assert sum(grant.count for grant in rig.grants(has)) == 2
