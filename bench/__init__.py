"""Times the op against plain reuse, Keras, concat, stack and XLA: `python -m bench --help`.

`shapes` lists what is timed, `plan` what is asked for of it, `contestants` who takes part, `exact`
tells how far from float64 they are. `timing` holds the method inside the graph (`graph`),
`interleaved` the rounds of all. `machine` measures what the machine can do (`probe.cc`), `limits`
turns that into the least time of a shape. `kernel_only` times the core against NumPy, `peers` other
libraries, `models` whole models, `memory` measures peaks and `load` what comes before the first
result, all in processes of their own (`processes`). `run` goes through it all; `report` makes the
tables (`tables`: how they are written), `page` puts them into pages, `compare` tells of two
results, `plots` draws; `doubts` says which figures nobody should believe. Beside all that,
`python -m bench.calls`: what Python adds to a call outside of graphs.

The results (`--out`, JSON; a small one with made-up figures is tests/bench_sample.json):

    format         3; another number is another layout
    machine        cpu, cores, threads (of --threads), isa, caches [{name, size in bytes, count}]
    versions       shared_dense, compiler, tensorflow, keras, numpy, python
    package        the folder of shared_dense; "" where it is that of this checkout
    commit         {hash, dirty}; null outside a git checkout, and of a package elsewhere
    command        the command line, a string
    date           UTC, ISO 8601
    runs           processes that measured the same, one after the other
    rounds, budget of each run: how often, and seconds per contestant and round
    interrupted    whether Ctrl-C ended it
    limit          {source, machines [{threads, fma {dtype: FLOP/s}, levels [{name,
                   capacity in bytes (null: DRAM), read, write, copy in bytes/s}]}]}
    skipped        {part or peer: why there is nothing of it}
    results        in the graph, a row each of {workload, setting, times, error, bound}, with pass
    eager          calls from Python, a row each of {workload, setting, times, error}, with pass
    grid           inputs x rows, a row each of {workload, setting, times, error, bound}, with pass;
                   only op and plain reuse
    blas           the library behind NumPy
    kernel_only    a row each of {workload, setting, times, bound} and difference (of the two
                   results, relative); contestants are core and numpy, and ratios over core
    peers          a row each of {workload, setting}, with peer, version, pass, us and error of the
                   one way there is: a spread, a number; called from Python, in their own process
    memory         a row each of {workload, setting}, with dkernel_bytes (of one dW) and peak_bytes
                   {contestant: bytes above the operands, forward and backward}
    load           a row each of {contestant, dtype, jit} with seconds {step: spread}; step by step
                   from the start of a process to its first result, and a second
    models         a row each of {model, setting}, with shape ("2x64, 784->256->64": inputs,
                   widths), pass ("inference", "training step"), times (but of shared, dense and
                   concat, over shared) and loss_difference {shared, concat: largest relative one
                   of the first losses from dense's}

Parts that were not asked for are empty lists. In the rows:

    workload       group (skinny, middle, large; own for --also; grid), use (what it comes from),
                   shape ("8x1 1024->1024"), inputs, rows [of each], in_features, units
    setting        dtype, threads, jit (all compiled by XLA), kernels (1: warm weights; more: cold
                   weights, every call takes another kernel and they come round when no cache
                   can hold the first still)
    pass           "forward" or "forward+backward"
    spread         {median, low, high}: of the runs' medians, the median, least and greatest; of a
                   single run, median and quartiles of its rounds
    runs           in rows with spreads, how many there were; after Ctrl-C fewer than asked for
    times          us {contestant: spread in microseconds of one call}, ratio {contestant: spread of
                   its time over op's in the same round: how many times faster the op is},
                   skipped {contestant: why it does not take part}
    error          error {contestant: largest error of all results against float64, each relative
                   to the largest value of its tensor}; in results and grid, of op and plain
    bound          gflop and bytes (least moved) of a call, limit_us, limit_by ("FMA" or a level),
                   of_limit (limit over the op's time), floor_us (limit if all were in L2)

Contestants: op, plain (a fused matmul per input), keras (a Dense called per input), concat, stack
(a batched matmul; equal rows only), xla (plain reuse, compiled; not where all is); eager has op,
keras and layer (SharedDense). Rows are told apart by all of workload and setting, pass and peer.
"""
