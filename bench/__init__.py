"""Times the op against plain reuse, concat and XLA, inside the graph: `python -m bench --help`.

`shapes` lists what is timed, `contestants` who takes part and how far from float64 they are,
`timing` holds the method. `machine` measures what the machine can do (`probe.cc`), `limits` turns
that into the least time of a shape. `kernel_only` times the core against NumPy, `memory` its peak.
`run` goes through it all; `report` makes the tables.
"""
