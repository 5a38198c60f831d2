"""No-op tasks on a host beside the coordinator, and on one behind a real network interface."""

import subprocess
import sys
from contextlib import ExitStack

from tests.benchmarks.case import FARM, WORKERS, Case, Goal, Order
from tests.hosts.net import Network, why_not

__all__ = ["CASE"]

RATE = "tasks_per_second"
FAR = "farm on a host in a namespace"
PORT = 7070
TIMEOUT_SECONDS = 120.0


def measure(order: Order) -> dict[str, float]:
    """Tasks a second; coordinator and client are in one namespace, the host there or in another."""
    with Network(order.folder) as network, ExitStack() as stack:
        network.add("near", 1)
        network.add("far", 2)
        address = f"tcp://{network.addresses['near']}:{PORT}"
        listen = ["coordinator", "--listen", f"tcp://*:{PORT}", "--insecure"]
        listen += ["--store", str(order.folder / "farm.db"), "--log-level", "error"]
        work = ["worker", address, "--slots", str(WORKERS), "--log-level", "error"]
        for place, words in (
            ("near", listen),
            ("far" if order.contender == FAR else "near", work),
        ):
            command = network.command(place, [sys.executable, "-m", "farm", *words])
            process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            stack.callback(process.wait)
            stack.callback(process.kill)
        client = [sys.executable, "-m", "tests.benchmarks.far_client", address, str(order.size)]
        said = subprocess.run(
            network.command("near", client),
            stdout=subprocess.PIPE,
            timeout=TIMEOUT_SECONDS,
            check=True,
        )
        return {RATE: float(said.stdout)}


CASE = Case(
    name="far-host",
    title="a host in another namespace",
    contenders=(FARM, FAR),
    size=20_000,
    quick=200,
    measure=measure,
    goals=(Goal(RATE, contender=FAR, over=(FARM,), at_least=0.9),),
    why_not=why_not,
)
