"""The limits that figures are compared with: formulas, the probe, the kernel alone, memory."""

import json
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import threadpoolctl

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench import __main__ as command  # noqa: E402
from bench import contestants, kernel_only, limits, machine, memory, processes  # noqa: E402
from bench.limits import Level, Machine  # noqa: E402
from bench.shapes import Shape  # noqa: E402
from shared_dense import _core  # noqa: E402

TINY = Shape((3, 1, 5), 33, 7)
INFINITE = float("inf")


def one_level(fma=INFINITE, read=INFINITE, write=INFINITE, copy=INFINITE, capacity=None):
    return Machine({"float32": fma, "float64": fma / 2}, (Level("M", capacity, read, write, copy),))


@pytest.mark.parametrize("dtype", ["float32", "float64", "half"])
@pytest.mark.parametrize("backward", [False, True])
def test_traffic_is_that_of_the_tensors(backward, dtype):
    """Counted on the tensors that a contestant takes and gives."""
    operands = contestants.make_operands(TINY, dtype)
    results = contestants.contestants(backward)["plain"](operands)

    def size(tensors):
        return sum(np.asarray(t).nbytes for t in tensors)

    n = len(TINY.rows)
    taken = size([*operands.xs, operands.kernel, operands.bias])
    read, held = taken, taken + size(results)
    if backward:
        outputs, given = results[:n], operands.dys
        read += size([*given, *outputs, *operands.xs, operands.kernel])
        held += size(given)
    found = limits.traffic(TINY, backward, limits.ITEM_BYTES[dtype])
    assert found == (read, size(results), held)


def test_traffic_without_bias():
    with_bias, without = (limits.traffic(TINY, False, 4, bias) for bias in (True, False))
    assert with_bias.read - without.read == with_bias.held - without.held == 4 * TINY.units
    assert with_bias.written == without.written


SQUARE = Shape((10,), 100, 100)  # 2e5 FLOPs; reads 4000 + 40000 + 400 bytes, writes 4000


@pytest.mark.parametrize(
    ("measured", "seconds", "by"),
    [
        (one_level(fma=2e5), 1.0, "FMA"),
        (one_level(read=44_400), 1.0, "M"),
        (one_level(write=1000), 4.0, "M"),
        (one_level(read=44_400, write=44_400, copy=44_400), 48_400 / 44_400, "M"),
        (one_level(read=44_400, write=44_400, copy=48_400), 1.0, "M"),
        (one_level(fma=1e5, read=44_400, write=44_400, copy=44_400), 2.0, "FMA"),
        (one_level(fma=4e5, read=44_400, write=44_400, copy=44_400), 48_400 / 44_400, "M"),
    ],
)
def test_limit_is_the_largest_term(measured, seconds, by):
    assert limits.limit(SQUARE, False, "float32", measured) == (pytest.approx(seconds), by)


def test_limit_of_gradients_is_of_three_products():
    assert limits.limit(SQUARE, True, "float32", one_level(fma=2e5)) == (pytest.approx(3), "FMA")


def test_peak_is_that_of_the_dtype():
    seconds = {
        t: limits.limit(SQUARE, False, t, one_level(fma=1.0)).seconds for t in limits.ITEM_BYTES
    }
    assert seconds["float64"] == 2 * seconds["float32"]
    assert seconds["bfloat16"] == seconds["half"] == seconds["float32"]


def test_level_is_the_smallest_that_holds_all():
    held = limits.traffic(SQUARE, False, 4).held
    levels = [Level(name, size, 1e9, 1e9, 1e9) for name, size in (("A", held), ("B", None))]
    measured = Machine({"float32": 1e15}, tuple(levels))
    assert limits.limit(SQUARE, False, "float32", measured).by == "A"
    smaller = Machine({"float32": 1e15}, (levels[0]._replace(capacity=held - 1), levels[1]))
    assert limits.limit(SQUARE, False, "float32", smaller).by == "B"
    assert limits.limit(SQUARE, True, "float32", measured).by == "B"


def test_cold_weights_come_from_the_last_level():
    """All else may lie in the first one."""
    near, far = Level("A", 1, 1e9, 1e9, 1e9), Level("B", None, 4e4, 1.0, 1.0)
    measured = Machine({"float32": 1e15}, (near, far))
    found = limits.limit(SQUARE, False, "float32", measured, cold=True)
    assert found == (pytest.approx(40_000 / 4e4), "B")
    slow = Machine({"float32": 1e5}, (near, far))
    assert limits.limit(SQUARE, False, "float32", slow, cold=True) == (pytest.approx(2), "FMA")


def test_floor_is_that_of_the_fastest_level():
    levels = (Level("A", 1, 1e9, 1e9, 1e9), Level("B", None, 1e6, 1e6, 1e6))
    measured = Machine({"float32": 1e15}, levels)
    slow = limits.limit(SQUARE, False, "float32", measured)
    fast = limits.floor(SQUARE, False, "float32", measured)
    assert (slow.by, fast.by) == ("B", "A")
    assert slow.seconds == pytest.approx(1000 * fast.seconds)


def test_caches_are_those_of_the_processors_in_use(tmp_path, monkeypatch):
    """Four processors, two to an L2; this process may use three of them."""
    for cpu in range(4):
        pair = f"{cpu // 2 * 2}-{cpu // 2 * 2 + 1}"
        for index, (level, kind, size, shared) in enumerate(
            [
                (1, "Data", "32K", str(cpu)),
                (1, "Instruction", "64K", str(cpu)),
                (2, "Unified", "1024K", pair),
                (3, "Unified", "8192K", "0-3"),
            ]
        ):
            folder = tmp_path / f"cpu{cpu}" / "cache" / f"index{index}"
            folder.mkdir(parents=True)
            said = {"level": level, "type": kind, "size": size, "shared_cpu_list": shared}
            for name, value in said.items():
                (folder / name).write_text(f"{value}\n")
    monkeypatch.setattr(machine, "cpus", lambda: [0, 1, 2])
    found = machine.caches(tmp_path)
    assert found == (("L1", 32 << 10, 3), ("L2", 1 << 20, 2), ("L3", 8 << 20, 1))
    assert [cache.capacity(2) for cache in found] == [64 << 10, 2 << 20, 8 << 20]
    assert [cache.capacity(9) for cache in found] == [96 << 10, 2 << 20, 8 << 20]
    assert machine.working_sets(found, 2) == {
        "L1": 16 << 10, "L2": 512 << 10, "L3": 2 << 20, "DRAM": 128 << 20,
    }  # fmt: skip


def test_a_process_is_confined_to_cores_of_their_own(tmp_path, monkeypatch):
    """Four processors, of which two are a core; the first of another system tells nothing."""
    for cpu, siblings in enumerate(["0-1", "0-1", "2-3", "2-3"]):
        folder = tmp_path / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{siblings}\n")
    for may_run, wanted in (([0, 1, 2, 3], [0, 2, 1, 3]), ([1, 2, 3, 4], [1, 2, 4, 3])):
        monkeypatch.setattr(machine, "cpus", lambda may_run=may_run: may_run)
        assert machine.apart(tmp_path) == wanted
    confined = []
    monkeypatch.setattr(machine, "apart", lambda: [0, 2, 1, 3])
    monkeypatch.setattr(os, "sched_setaffinity", lambda *given: confined.append(given), False)
    machine.confine(3)
    assert confined == [(0, [0, 2, 1])]


def test_every_process_that_times_is_confined_before_it_imports_anything(monkeypatch):
    """Libraries count processors when imported."""
    done = []
    monkeypatch.setattr(machine, "confine", lambda threads: done.append(threads))
    monkeypatch.setattr(processes.importlib, "import_module", lambda name: done.append(name))
    monkeypatch.setattr(
        processes.pickle, "load", lambda _: ("bench.graph.rows", ([], 3), 3), raising=False
    )
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=None))
    with pytest.raises(AttributeError, match="rows"):
        processes.main()
    assert done == [3, "bench.graph"]


def test_a_process_has_the_threads_that_it_is_given(monkeypatch, tmp_path):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Nehalem")  # for other programs
    code = "import os\ndef said(*names):\n    yield {n: os.environ.get(n) for n in names}\n"
    (tmp_path / "telling.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", *processes.SLOW_NUMPY)
    (line,) = processes.lines("telling.said", *names, threads=2)
    assert list(line.values()) == ["1", "2", "2", None, None]


def test_caches_of_a_system_that_does_not_tell(tmp_path):
    assert {cache.name: cache.size for cache in machine.caches(tmp_path)} == machine.ASSUMED_CACHES


def test_probe_measures_every_level(tmp_path):
    command = [machine.compile_probe(tmp_path), "2", "1", "1024", "65536", "100"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["threads"] == 2
    rates = [*found["fma"].values(), *(r for level in found["levels"] for r in level.values())]
    assert len(rates) == 2 + 3 * 3 and all(0 < rate < INFINITE for rate in rates)
    measured = machine.from_probe(found, [machine.Cache("L1", 1, 1), machine.Cache("L2", 9, 2)])
    assert [(level.name, level.capacity) for level in measured.levels] == [
        ("L2", 18),
        ("DRAM", None),
    ]
    assert measured.levels[1].copy == found["levels"][2]["copy"]


@pytest.mark.parametrize("arguments", [[], ["0", "1"], ["1"], ["1", "1", "L1"], ["1", "1", "0"]])
def test_probe_refuses(arguments, tmp_path_factory):
    program = machine.compile_probe(tmp_path_factory.getbasetemp())
    assert subprocess.run([program, *arguments], capture_output=True).returncode == 2


@pytest.mark.parametrize(
    ("compiler", "reason"),
    [("no-such-compiler", "there is no C++ compiler"), ("false", "false failed: no message")],
)
def test_without_a_compiler_there_is_no_limit(compiler, reason, monkeypatch, capsys):
    monkeypatch.setenv("CXX", compiler)
    assert command.main([]) == 1
    assert f"no limit to compare with: {reason}" in capsys.readouterr().err


@pytest.mark.parametrize("dtype", kernel_only.DTYPES)
def test_kernel_only_times_equal_products(dtype):
    row = kernel_only.time_shape(TINY, dtype, 2, rounds=2, budget=0.001)
    assert row["seconds"].keys() == {"core", "numpy"}
    assert all(len(s) == 2 and min(s) > 0 for s in row["seconds"].values())
    assert row["difference"] <= 2 * 33 * np.finfo(dtype).eps


@pytest.mark.parametrize("threads", [1, 2])
def test_numpy_has_as_many_threads_as_the_core(threads, monkeypatch):
    with threadpoolctl.threadpool_limits(3 - threads):
        assert kernel_only.blas(threads)
        found = [
            of["num_threads"] for of in threadpoolctl.threadpool_info() if "blas" in of["user_api"]
        ]
        assert threads in found
    monkeypatch.setattr(threadpoolctl, "threadpool_info", list)
    with pytest.raises(RuntimeError, match=f"no BLAS that takes {threads} threads"):
        kernel_only.blas(threads)


def test_kernel_only_sees_a_wrong_product(monkeypatch):
    def wrong(xs, kernel, ys, calls, threads):
        ys[1][...] = xs[1] @ kernel * 1.01
        return _core.time_forward([xs[0]], kernel, [ys[0]], calls, threads)

    monkeypatch.setattr(kernel_only, "_core", types.SimpleNamespace(time_forward=wrong))
    row = kernel_only.time_shape(Shape((3, 1), 33, 7), "float32", 1, rounds=1, budget=0.001)
    assert row["difference"] > 1e-4


def test_kernel_only_runs_without_tensorflow():
    code = "from bench import kernel_only; import sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "tensorflow" not in done.stdout.split()


@pytest.mark.parametrize("offset", [0, 1, 16, 63])
def test_aligned_copies_start_on_a_line(offset, monkeypatch):
    empty = np.empty

    def off_the_line(size, dtype):
        memory = empty(size + 128, dtype)
        start = -memory.ctypes.data % 64 + offset
        return memory[start : start + size]

    values = np.arange(1000.0)
    monkeypatch.setattr(np, "empty", off_the_line)
    copy = kernel_only.aligned(values)
    assert copy.ctypes.data % 64 == 0 and np.array_equal(copy, values)


def test_memory_shows_the_kernel_gradients_of_plain_reuse():
    """Each contestant holds a dW at least, and plain reuse one for every input."""
    try:
        memory._reset_peak()
    except OSError as error:
        pytest.skip(f"the system does not reset the peak of a process: {error}")
    found = memory.measure(4, threads=2, dtype="float32")
    one, peak = found["dkernel_bytes"], found["peak_bytes"]
    assert one == 2048 * 2048 * 4
    assert one < peak["op"] < 3 * one
    assert one < peak["concat"] < 3 * one
    assert peak["plain"] > 4 * one


def test_memory_says_why_there_is_none(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match=r"bench\.memory\.peak_growth failed: no message"):
        memory.measure(1, 1, "float32")
