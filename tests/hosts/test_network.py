"""Faults on a real network: nothing is lost; and the network itself leaves nothing behind."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import REPOSITORY
from tests.hosts.faults import LINKS
from tests.hosts.net import NAMESPACES, Network, why_not
from tests.hosts.run import run
from tests.processes import own_environment

PATIENCE = 20.0
MAKER = """
import sys
from tests.hosts.net import Network
with Network(sys.argv[1]) as network:
    network.add("a", 1)
    print(network.space("a"), flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _namespaces():
    if reason := why_not():
        pytest.skip(reason)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_on_a_bad_network_nothing_is_lost_and_nothing_is_published_twice():
    report = run(3, 20.0)
    assert not report.broken, str(report)
    assert report.history.acknowledged
    assert sum(report.faults[kind] for kind in LINKS) >= 5, "hardly any fault of the network"


def connects(network, source, target):
    """Whether a datagram of one namespace arrives in the other."""
    receive = "import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.bind(('0.0.0.0', 9)); "
    receive += "s.settimeout(1); print('up', flush=True); s.recv(9)"
    send = "import socket; s = socket.socket(type=socket.SOCK_DGRAM); "
    send += f"s.sendto(b'x', ('{network.addresses[target]}', 9))"
    there = network.command(target, [sys.executable, "-c", receive])
    with subprocess.Popen(there, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as receiver:
        receiver.stdout.readline()
        here = network.command(source, [sys.executable, "-c", send])
        subprocess.run(here, stderr=subprocess.DEVNULL, check=False)
        return receiver.wait(PATIENCE) == 0


def test_links_and_routes_do_what_they_are_for(tmp_path):
    with Network(tmp_path) as network:
        network.add("a", 1)
        network.add("b", 2)
        assert connects(network, "a", "b")
        network.link("b", up=False)
        assert not connects(network, "a", "b")
        network.link("b", up=True)
        network.blackhole("a", network.addresses["b"], on=True)
        assert not connects(network, "a", "b")
        assert connects(network, "b", "a")
        network.blackhole("a", network.addresses["b"], on=False)
        network.set_address("b", 3)
        assert connects(network, "a", "b")
    assert not (NAMESPACES / network.space("a")).exists()


def test_the_namespaces_of_a_killed_run_are_removed(tmp_path):
    words = [sys.executable, "-c", MAKER, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(words, cwd=REPOSITORY, env=own_environment(tmp_path), **pipes) as maker:
        space = NAMESPACES / maker.stdout.readline().decode().strip()
        assert space.exists()
        os.kill(maker.pid, signal.SIGKILL)
    until = time.monotonic() + PATIENCE
    while space.exists():
        assert time.monotonic() < until, f"{space} is still there"
        time.sleep(0.02)
