"""Training under tf.distribute: processes and devices that share it agree with plain Dense."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import warm
from distribution_models import (
    BATCH,
    KINDS,
    MODELS,
    SECONDS,
    STEPS,
    UNITS,
    WIDTH,
    data,
    fit,
    model_of,
)

import shared_dense as sd

HERE = Path(__file__).parent
# The sums of a step, one after the other: over the inputs' width, the units, the rows of a batch,
# and over the batch once more for its mean.
TERMS = WIDTH + UNITS + 2 * BATCH
SCRIPT = ["-W", "ignore", str(HERE / "distribution_models.py")]


@pytest.fixture(scope="module")
def examples():
    """The examples' modules: `cluster` starts processes, `plain` bounds differences of losses."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(HERE.parent / "examples"))
        import cluster
        import plain

        yield cluster, plain


@pytest.fixture(scope="module")
def _environment():
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("SHARED_DENSE_")]:
            patch.delenv(name)
        patch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        patch.setenv("PYTHONPATH", str(Path(sd.__file__).parents[1]))
        yield


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory, request, _environment):
    results = tmp_path_factory.mktemp("mirrored") / "one"
    command = [*warm.python(), *SCRIPT, "mirrored", str(results)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            request.getfixturevalue("alone")  # in the meantime
            _, errors = process.communicate(timeout=SECONDS)
        finally:
            process.kill()
    assert process.returncode == 0, errors[-3000:]
    return json.loads(results.with_suffix(".json").read_text())


@pytest.fixture(scope="module")
def workers(tmp_path_factory, examples, _environment):
    results = tmp_path_factory.mktemp("workers")
    command = [*warm.python(), *SCRIPT, "workers", str(results / "{}")]
    examples[0].run(command, {"worker": [{}, {}]}, waits_for="worker", seconds=SECONDS)
    return [json.loads((results / f"{index}.json").read_text()) for index in range(2)]


@pytest.fixture(scope="module")
def parameters(tmp_path_factory, examples, _environment):
    results = tmp_path_factory.mktemp("parameters") / "chief"
    jobs = {"chief": [{}], "worker": [{}], "ps": [{}]}
    command = [*warm.python(), *SCRIPT, "parameters", str(results)]
    examples[0].run(command, jobs, waits_for="chief", seconds=SECONDS)
    return json.loads(results.with_suffix(".json").read_text())


@pytest.fixture(scope="module")
def alone(examples):
    """The losses of plain Dense in one process without a strategy: fit, evaluate, predict."""
    *xs, y = data()
    found = {}
    for name in MODELS:
        model = model_of(name, plain=True)
        before = model.evaluate(xs, y, batch_size=BATCH, verbose=0)
        found[name] = fit(model)
        # It does train: by far more than is allowed for rounding.
        bound = examples[1].allowed_difference(STEPS, TERMS) * found[name][0]
        assert abs(found[name][-1] - before) > 1000 * bound
    return found


def check(losses, alone, plain):
    """Every loss, within the bound of the examples."""
    steps = np.minimum(np.arange(len(losses)) + 1, STEPS)
    difference = np.abs(np.subtract(losses, alone)) / alone[0]
    assert np.all(difference <= plain.allowed_difference(steps, TERMS)), difference


def all_cells(test):
    test = pytest.mark.parametrize("kind", KINDS)(test)
    return pytest.mark.parametrize("name", MODELS)(test)


@all_cells
def test_mirrored_fit(mirrored, alone, examples, name, kind):
    """Two replicas in one process; the losses of fit's steps, of evaluate, and of predict."""
    found = mirrored[f"{name} {kind}"]
    assert found["path"] == kind and found["replicas"] == 2
    check(found["losses"], alone[name], examples[1])


@all_cells
def test_two_workers(workers, alone, examples, name, kind):
    """Two processes, each with its half of every batch."""
    both = [worker[f"{name} {kind}"] for worker in workers]
    assert all(found["path"] == kind and found["replicas"] == 2 for found in both)
    check(np.sum([found["losses"] for found in both], axis=0), alone[name][:STEPS], examples[1])
    assert both[0]["losses"] != both[1]["losses"]
    assert both[0]["weights"] == both[1]["weights"]  # the same bits


@all_cells
def test_parameter_server(parameters, alone, examples, name, kind):
    """Weights in one process, steps in a second, both told by a third."""
    found = parameters[f"{name} {kind}"]
    assert found["path"] == kind
    assert found["device"].startswith("/job:ps/")
    check(found["losses"], alone[name][:STEPS], examples[1])


@pytest.mark.skipif(not keras.__version__.startswith("3.15."), reason="as of Keras 3.15")
def test_what_keras_cannot_do_with_plain_dense(workers, parameters):
    """docs/distribution.md says so: when this fails, Keras has learnt it, and the page is old."""
    page = (HERE.parent / "docs" / "distribution.md").read_text()
    for error, quoted in (
        (workers[0]["Dense fit"], "ValueError: Attempt to convert a value (PerReplica:"),
        (parameters["Dense fit"], "ValueError: To use this dataset, you need to pass this dataset"),
    ):
        assert error.startswith(quoted)
        assert quoted in page


def test_two_workers_one_without_the_op(examples, _environment, capsys):
    """The example, where one machine has no op: printed losses agree, and so do weights."""
    import two_workers

    assert two_workers.main(["--epochs", "3", "--without-op", "1"]) == 0
    printed = capsys.readouterr().out
    assert "path: worker 0 op, worker 1 fallback" in printed
    assert re.search(r"largest difference \S+ of the first loss, bound \S+: OK", printed)
    assert "weights of both workers: the same bits: OK" in printed


CHILD = """
import json, os, sys
task = json.loads(os.environ["TF_CONFIG"])["task"]
print("task", task["type"], task["index"], flush=True)
"""


def test_a_failing_task_ends_the_others(examples):
    """At once, and with what it printed: nobody waits for a peer that is gone."""
    code = CHILD + "sys.exit('lost') if task['index'] else sys.stdin.read()"
    read, write = os.pipe()  # the first task waits on its standard input, which stays open
    saved = os.dup(0)
    try:
        os.dup2(read, 0)
        with pytest.raises(RuntimeError, match=r"(?s)worker 1 ended with 1:.*task worker 1.*lost"):
            examples[0].run([sys.executable, "-c", code], {"worker": [{}, {}]}, "worker")
    finally:
        os.dup2(saved, 0)
        for descriptor in (read, write, saved):
            os.close(descriptor)


def test_a_task_that_hangs_is_killed(examples):
    code = CHILD + "import threading; threading.Event().wait()"
    with pytest.raises(RuntimeError, match=r"(?s)worker 0 took longer than 1 s:.*task worker 0"):
        examples[0].run([sys.executable, "-c", code], {"worker": [{}]}, "worker", seconds=1)


def test_servers_end_with_the_chief(examples, tmp_path):
    code = CHILD + (
        "import threading\n"
        "if task['type'] == 'ps':\n"
        "    open(sys.argv[1], 'w').write(str(os.getpid()))\n"
        "    threading.Event().wait()\n"
        "open(sys.argv[2], 'w').write(open(sys.argv[1]).read())"  # once the server is there
    )
    fifo, pid = tmp_path / "fifo", tmp_path / "pid"
    os.mkfifo(fifo)
    command = [sys.executable, "-c", code, str(fifo), str(pid)]
    examples[0].run(command, {"chief": [{}], "ps": [{}]}, "chief", seconds=60)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_a_taken_port_is_another_try(examples, monkeypatch, tmp_path):
    cluster, _ = examples
    ports = iter([[1], [2], [3]])
    monkeypatch.setattr(cluster, "free_ports", lambda count: next(ports))
    code = CHILD + (
        "port = json.loads(os.environ['TF_CONFIG'])['cluster']['worker'][0].split(':')[1]\n"
        f"sys.exit('{cluster.PORT_TAKEN}') if port != sys.argv[1] else None"
    )
    cluster.run([sys.executable, "-c", code, "3"], {"worker": [{}]}, "worker")
    ports = iter([[1], [2], [3], [4]])
    with pytest.raises(RuntimeError, match=cluster.PORT_TAKEN):
        cluster.run([sys.executable, "-c", code, "4"], {"worker": [{}]}, "worker")
