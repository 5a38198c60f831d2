"""What a host says of the environment of its tasks, as labels, and why it gets no work with it.

The labels are those that hosts are given by people, and a few more: ``python=3.11``,
``platform=linux-x86_64`` and, for each package that the host tells of, ``package.numpy`` and
``package.numpy=2.1.3``, ``=2.1``, ``=2``. So tasks ask for them as for any other.
"""

from collections.abc import Iterable, Iterator
from itertools import islice

from farm.protocol.messages import HostHello
from farm.resources import LABEL, PACKAGE, label_texts

__all__ = ["PACKAGES_MAX", "host_labels", "why_unusable"]

PACKAGES_MAX = 64
"""More packages of one host are not looked at."""
PARTS_MAX = 3
"""Of a version: more than 2.1.3 nobody asks for by its beginning."""


def host_labels(hello: HostHello) -> frozenset[str]:
    """All that tasks may ask of a host."""
    found = {"python": hello.python, "platform": hello.platform}
    known = label_texts({name: text for name, text in found.items() if text})
    labels = label_texts(hello.labels)
    return labels | frozenset(label for label in known | _packages(hello) if _may_be(label))


def _packages(hello: HostHello) -> frozenset[str]:
    return frozenset(
        label
        for name, version in islice(hello.packages.items(), PACKAGES_MAX)
        for label in (f"{PACKAGE}{name}", *_versions(f"{PACKAGE}{name}", version))
    )


def _versions(name: str, version: str) -> Iterator[str]:
    yield f"{name}={version}"
    parts = version.split(".")[:PARTS_MAX]
    for count in range(1, len(parts)):
        yield f"{name}={'.'.join(parts[:count])}"


def _may_be(label: str) -> bool:
    return LABEL.fullmatch(label) is not None


def why_unusable(
    hello: HostHello, python: str, wanted: Iterable[str], labels: frozenset[str]
) -> str:
    """Why a host gets no work; empty if it does.

    ``python``: of the coordinator. ``wanted``: the labels that every host must have.
    """
    if python and hello.python != python:
        return (
            f"it runs Python {hello.python} and the farm {python}: tasks could not be unpickled "
            "there; install the same minor version"
        )
    for label in wanted:
        if label not in labels:
            has = ", ".join(sorted(_alike(label, labels))) or "nothing of the kind"
            return (
                f"the farm wants {label} of its hosts (coordinator.host_labels), and it has {has};"
                " install that, or have it told by `packages` or `labels` of the host"
            )
    return ""


def _alike(label: str, labels: frozenset[str]) -> Iterator[str]:
    """What a host has of the same name, in full."""
    name = label.partition("=")[0]
    found = [one for one in labels if one == name or one.startswith(f"{name}=")]
    longest = max(map(len, found), default=0)
    return (one for one in found if len(one) == longest)
