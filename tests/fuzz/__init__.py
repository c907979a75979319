"""Random programs around shared_matmul and the layers, against float64 of plain TensorFlow.

`cases.py` and `layers.py` draw a program from a seed, `program.py` makes it text, `prelude.py` is
what every program begins with, `worker.py` runs programs in a process that may die, `__main__.py`
drives workers: `python -m fuzz --help`, in tests/.
"""
