"""Two processes train one network, each on its half of every batch, and agree with one process.

    python examples/two_workers.py

The parent starts both workers, trains the same network by itself with plain Dense layers, and
compares. On two machines, run `two_workers.py --worker FILE` on each, with their addresses in
TF_CONFIG. The network is the one of triplet_digits.py.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cluster
import keras
import numpy as np
import tensorflow as tf
import triplet_digits
from digits import load
from plain import compare, reused

import shared_dense as sd

WORKERS = 2
SECONDS = 120


def work(options: argparse.Namespace) -> None:
    """What one worker does: trains on its share, and leaves its losses and weights in a file."""
    # If the other worker is gone, this one would wait for it for ever.
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    strategy = tf.distribute.MultiWorkerMirroredStrategy()  # first: it sets TensorFlow up
    index = strategy.cluster_resolver.task_id
    digits, _ = load(options.seed)
    keras.utils.set_random_seed(options.seed)
    with strategy.scope():
        model, _ = triplet_digits.build(sd.SharedDense)
        model.optimizer.build(model.trainable_variables)

    rows = tf.TensorSpec([None, 64], tf.float32)  # one trace for batches of any size

    @tf.function(input_signature=[[rows] * 3, tf.TensorSpec([], tf.float32)])
    def step(images, batch_size):
        def replica(images):
            with tf.GradientTape() as tape:
                losses = model(images, training=True)
                # Keras's optimizer adds up both workers' gradients: of the mean over the batch.
                loss = tf.reduce_sum(losses) / batch_size
            gradients = tape.gradient(loss, model.trainable_variables)
            model.optimizer.apply(gradients, model.trainable_variables)
            return tf.reduce_sum(losses)

        return strategy.run(replica, args=(images,))

    rng = np.random.default_rng(options.seed)  # the same in both: they draw the same batches
    losses, batch = [], triplet_digits.BATCH
    for _ in range(options.epochs):
        triplets = np.stack(triplet_digits.draw_triplets(digits.labels, rng))
        total = 0.0
        for start in range(0, triplets.shape[1], batch):
            whole = triplets[:, start : start + batch]
            images = [tf.constant(digits.images[i]) for i in whole[:, index::WORKERS]]
            total += float(step(images, float(whole.shape[1])))
        losses.append(total / triplets.shape[1])
    np.savez(
        options.worker.format(index),
        losses=losses,
        path=sd.status().last_path,
        traces=step.experimental_get_tracing_count(),
        **{f"weight_{i}": w.numpy() for i, w in enumerate(model.trainable_variables)},
    )


def start_workers(options: argparse.Namespace) -> list[dict[str, np.ndarray]]:
    """Runs both workers; what each left."""
    with tempfile.TemporaryDirectory() as folder:
        files = str(Path(folder) / "worker_{}.npz")
        command = [sys.executable, __file__, "--worker", files]
        command += ["--epochs", str(options.epochs), "--seed", str(options.seed)]
        variables = [{} for _ in range(WORKERS)]
        if options.without_op is not None:
            variables[options.without_op]["SHARED_DENSE_DISABLE"] = "1"
        cluster.run(command, {"worker": variables}, waits_for="worker", seconds=SECONDS)
        return [dict(np.load(files.format(index))) for index in range(WORKERS)]


def main(arguments: list[str] | None = None) -> int:
    """Trains by two workers and in one process, and compares; 0 when all is as it should be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--without-op", type=int, choices=range(WORKERS), help="a worker to run plain TensorFlow"
    )
    parser.add_argument("--worker", metavar="FILE", help="be a worker; {} in FILE is its number")
    options = parser.parse_args(arguments)
    if options.worker:
        work(options)
        return 0

    workers = start_workers(options)
    print(f"{'epoch':>6} {'worker 0':>12} {'worker 1':>12}  (share of the loss)")
    for epoch, shares in enumerate(zip(*(w["losses"] for w in workers), strict=True), 1):
        print(f"{epoch:>6} {shares[0]:>12.7f} {shares[1]:>12.7f}")
    print("path: " + ", ".join(f"worker {i} {w['path']}" for i, w in enumerate(workers)))

    digits, _ = load(options.seed)
    plain, _ = triplet_digits.train(reused, digits, options.epochs, options.seed)
    steps = -(-len(digits.labels) // triplet_digits.BATCH)
    both = np.sum([w["losses"] for w in workers], axis=0)
    agree = compare(both, plain, steps=steps, terms=128)
    weights = [name for name in workers[0] if name.startswith("weight_")]
    same = all(np.array_equal(workers[0][name], workers[1][name]) for name in weights)
    print(f"weights of both workers: {'the same bits: OK' if same else 'differ: FAIL'}")
    return 0 if agree and same else 1


if __name__ == "__main__":
    sys.exit(main())
