"""Benchmarks: the suite beside the peers, the same workload for all, on one machine.

Run ``python -m benchmarks`` or ``make bench``. How the parts fit::

    cli -> runner -> workloads x systems -> results -> report, targets
                         |          |
              load (client)   load (destination)

A system is something that carries a TCP connection to the destination; a workload measures one
system once. The runner interleaves them in rounds, so that whatever else the machine does hits all
systems alike, and the figures are medians and paired ratios.
"""
