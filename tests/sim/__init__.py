"""A whole farm in one process, on a seeded virtual network, clock and disk.

    plan        what a seed decides: machines, bounds, faults, work
    world       builds it, runs it: faults and work, then rest, then everybody leaves
    budget      how many steps there are, so that all that begins ends within them
    clock, network, door, journal    time, connections, the coordinator's disk
    process, coordinator, host, client      the shells of the three machines
    worker, work, program            what tasks do, and what users do
    faults      what goes wrong, and when
    truth       what is known of every task from outside
    checks*, rest                    the promises, at every step and at rest
    bites*      rules broken on purpose, each of which a checker must find
    reseed      looks for them all anew, and keeps the seeds that find them
    run, trace, __main__             many seeds, and the story of one that failed

``make sim SEEDS=1000`` runs seeds; ``python -m tests.sim --seed 7 -v`` tells all of one. The same
commit and seed always tell the same story: whatever the machines iterate over must be in an order
that does not depend on addresses or hash seeds. A feature extends the plan (so that seeds use it),
the program or the faults, and the checks; then a bite shows that its checks find it broken.
"""
