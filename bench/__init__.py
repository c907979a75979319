"""Times the op against plain reuse, concat and XLA, inside the graph: `python -m bench --help`.

`shapes` lists what is timed, `contestants` who takes part and how far from float64 they are,
`timing` holds the method, `report` the table and the JSON.
"""
