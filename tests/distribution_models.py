"""Models trained under a strategy: what `test_distribution.py` runs, in processes of their own.

    python distribution_models.py mirrored|workers|parameters RESULTS

Leaves the losses of every step, by model and kind, in `RESULTS.json`; `{}` in the name is the task.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import shared_dense as sd

WIDTH, UNITS, BATCH, STEPS = 12, 8, 8, 6
SECONDS = 120
KINDS = ("op", "fallback")


class Apply(keras.layers.Layer):
    """A Dense's kernel, without its bias or transposed with one: what no Dense can do."""

    def __init__(self, dense, activation, transposed=False):
        super().__init__()
        self.dense, self.transposed = dense, transposed
        self.activation = keras.activations.get(activation)

    def build(self, shape):
        if self.transposed:
            self.bias = self.add_weight(shape=(self.dense.kernel.shape[0],), initializer="zeros")

    def call(self, x):
        kernel = self.dense.kernel
        if self.transposed:
            return self.activation(keras.ops.matmul(x, keras.ops.transpose(kernel)) + self.bias)
        return self.activation(keras.ops.matmul(x, kernel))


def shared(inputs, plain):
    if plain:
        dense = keras.layers.Dense(UNITS, activation="tanh")
        return [dense(x) for x in inputs]
    return sd.SharedDense(UNITS, activation="tanh")(inputs)


def branches(inputs, plain):
    if plain:
        dense = keras.layers.Dense(UNITS, activation="gelu")
        return [dense(inputs[0]), Apply(dense, "silu")(inputs[1])]
    table = {"left": {}, "right": {"bias": None, "activation": "silu"}}
    layer = sd.SharedDense(UNITS, activation="gelu", branches=table)
    return list(layer(dict(zip(table, inputs, strict=True))).values())


def tied(inputs, plain):
    if plain:
        dense = keras.layers.Dense(UNITS, activation="silu")
        up = Apply(dense, "tanh", transposed=True)
        return [up(dense(x)) for x in inputs]
    down = sd.SharedDense(UNITS, activation="silu")
    return sd.TransposedDense(tied_to=down, activation="tanh")(down(inputs))


MODELS = {"shared": shared, "branches": branches, "tied": tied}


def model_of(name, plain=False):
    """The model, of SharedDense or of plain Dense, with the same weights."""
    inputs = [keras.Input((WIDTH,)) for _ in range(2)]
    difference = keras.layers.subtract(MODELS[name](inputs, plain))
    model = keras.Model(inputs, keras.layers.Dense(1)(difference))
    rng = np.random.default_rng(1)
    for kernel in (w for w in model.trainable_variables if len(w.shape) == 2):
        kernel.assign(rng.standard_normal(kernel.shape) / np.sqrt(kernel.shape[0]))
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def data():
    rng = np.random.default_rng(0)
    shapes = [(STEPS * BATCH, WIDTH), (STEPS * BATCH, WIDTH), (STEPS * BATCH, 1)]
    return [rng.standard_normal(shape).astype("float32") for shape in shapes]


def on_path(kind):
    return sd.fallback() if kind == "fallback" else contextlib.nullcontext()


class Losses(keras.callbacks.Callback):
    """The loss of each step; Keras's logs are means over an epoch."""

    def __init__(self):
        super().__init__()
        self.found = []

    def on_train_batch_end(self, batch, logs=None):
        self.found.append(logs["loss"] * (batch + 1) - sum(self.found))


def gradient_step(model):
    """For `strategy.run`: a replica's rows of a batch; its part of the batch's mean loss."""

    def step(left, right, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum((model([left, right], training=True) - y) ** 2) / BATCH
        # Keras's optimizer adds up the gradients of all replicas.
        model.optimizer.apply(tape.gradient(loss, model.trainable_variables))
        return loss

    return step


def fit(model):
    """The losses of all steps, then what evaluate finds, then the loss of what predict gives."""
    *xs, y = data()
    losses = Losses()
    model.fit(xs, y, batch_size=BATCH, shuffle=False, verbose=0, callbacks=[losses])
    evaluated = model.evaluate(xs, y, batch_size=BATCH, verbose=0)
    predicted = model.predict(xs, batch_size=BATCH, verbose=0)
    return [*losses.found, evaluated, float(np.mean((predicted - y) ** 2))]


def mirrored(found):
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    for name, kind in found:
        with on_path(kind):
            with strategy.scope():
                model = model_of(name)
            found[name, kind] = {
                "losses": fit(model),
                "path": sd.status().last_path,
                "replicas": strategy.num_replicas_in_sync,
            }


def workers(found):
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    index = strategy.cluster_resolver.task_id
    for name, kind in found:
        with on_path(kind):
            with strategy.scope():
                model = model_of(name)
            step = tf.function(
                lambda *batch, model=model: strategy.run(gradient_step(model), args=batch)
            )
            losses = []
            for start in range(0, STEPS * BATCH, BATCH):
                losses.append(float(step(*(a[start + index : start + BATCH : 2] for a in data()))))
            found[name, kind] = {
                "path": sd.status().last_path,
                "replicas": strategy.num_replicas_in_sync,
                "losses": losses,
                "weights": [w.numpy().tobytes().hex() for w in model.trainable_variables],
            }
    found["Dense", "fit"] = error_of_fit(strategy)
    return index


def parameters(found):
    cluster = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    if cluster.task_type != "chief":
        import shared_dense.load_op  # noqa: F401  the functions it will be sent hold the op

        server = tf.distribute.Server(
            cluster.cluster_spec(), job_name=cluster.task_type, task_index=cluster.task_id
        )
        server.join()
    strategy = tf.distribute.ParameterServerStrategy(cluster)
    coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
    for name, kind in found:
        with on_path(kind):
            with strategy.scope():
                model = model_of(name)
            step = tf.function(
                lambda *batch, model=model: strategy.run(gradient_step(model), args=batch)
            )
            losses = []
            for start in range(0, STEPS * BATCH, BATCH):
                batch = [tf.constant(a[start : start + BATCH]) for a in data()]
                loss = coordinator.schedule(step, args=batch)
                coordinator.join()  # one after the other: otherwise steps overlap
                losses.append(float(loss.fetch()))
            found[name, kind] = {
                "path": sd.status().last_path,
                "device": model.trainable_variables[0].value.device,
                "losses": losses,
            }
    found["Dense", "fit"] = error_of_fit(strategy)


def error_of_fit(strategy):
    """What Keras's `fit` says of a model with nothing of ours in it."""
    with strategy.scope():
        model = keras.Sequential([keras.Input((WIDTH,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    x, _, y = data()
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH).repeat()
    try:
        model.fit(dataset, steps_per_epoch=STEPS, verbose=0)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def main(mode, results):
    # A process whose peers are gone would wait for them for ever.
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    found = {(name, kind): None for name in MODELS for kind in KINDS}
    run = {"mirrored": mirrored, "workers": workers, "parameters": parameters}[mode]
    index = run(found)
    text = json.dumps({f"{name} {kind}": value for (name, kind), value in found.items()})
    Path(f"{results.format(index)}.json").write_text(text)


if __name__ == "__main__":
    main(*sys.argv[1:])
