"""Benchmarks: the suite beside the peers, the same workload for all, on one machine.

Run ``python -m benchmarks`` or ``make bench``. How the parts fit::

    cli -> runner -> workloads x systems -> results -> report, plots, targets
             |          |         |
           budget     load      grounds (destinations, long ways)

A system is something that carries a connection to a destination; a workload measures one system
once. The runner interleaves them in rounds, so that whatever else the machine does hits all systems
alike, and the figures are medians and paired ratios. Systems are started anew for each variant of
their surroundings: before an HTTP server, on long ways, with a crowd, for datagrams.
"""
