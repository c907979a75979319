"""Checks and times csrc/cuda on a machine with a GPU: `python -m bench.cuda --help`.

Needs an nvcc and no TensorFlow. `cases` lists what is timed, `build` compiles `measure.cc`, which
checks and times (`contestants.h`: who takes part), `targets` says what was to be reached, `report`
makes the table.
"""
