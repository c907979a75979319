"""Models that one process saves and another loads: what `test_saving.py` runs, in processes apart.

    python saving_models.py save|load FOLDER RESULTS [--refuse]

Leaves its numbers in `RESULTS.npz` and what else it saw in `RESULTS.json`. `--refuse`: no
shared_dense can be imported.

A model of the tests is one entry of CASES. It consists of products of its inputs; the truth about
them, gradients included, follows from `oracle.py`.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

K = U = 4
BATCH, FEWER = 8, 3
RATE, MOMENTUM = 0.125, 0.5
SHAPES = {"left": (K,), "right": (2, K), "item": (2, K), "query": (K,), "text": (2, K)}


@dataclasses.dataclass(frozen=True)
class Product:
    """One kernel applied to some inputs; all are places in the flat inputs, outputs, weights.

    The outputs count as inputs, too: they come after these. Biases and activations are one for all,
    or one (None: no bias) for each.
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    kernel: int
    biases: tuple[int | None, ...]
    activations: tuple[str, ...]
    transposed: bool = False
    untrained: tuple[int, ...] = ()  # outputs whose gradient stays out of the kernel's


@dataclasses.dataclass(frozen=True)
class Case:
    """A model of inputs in this structure of names, and what it computes, in which dtype."""

    make: Callable
    structure: object
    products: tuple[Product, ...]
    dtype: str = "float32"
    without_loss: tuple[int, ...] = ()  # outputs that are made of others


def one_layer(finish=lambda outputs: outputs, **arguments):
    """A functional model: one SharedDense on all inputs."""

    def make(structure):
        import shared_dense as sd

        inputs = keras.tree.map_structure(lambda n: keras.Input(SHAPES[n], name=n), structure)
        return keras.Model(inputs, finish(sd.SharedDense(U, **arguments)(inputs)))

    return make


@keras.saving.register_keras_serializable("saving_models")
class Heads(keras.Model):
    """Two layers, each on all inputs."""

    def __init__(self, **kwargs):
        import shared_dense as sd

        super().__init__(**kwargs)
        self.score = sd.SharedDense(U, activation="tanh")
        self.box = sd.SharedDense(U, activation="relu", use_bias=False)

    def build(self, shapes):
        self.score.build(shapes)
        self.box.build(shapes)

    def call(self, inputs):
        found = {"score": self.score(inputs), "box": self.box(inputs)}
        return {f"{kind}_{name}": y for kind in found for name, y in found[kind].items()}


def tied(structure):
    """An encoder of one input, and a decoder of the other one and of what was encoded."""
    import shared_dense as sd

    left, right = (keras.Input(SHAPES[name], name=name) for name in structure)
    encoder = sd.SharedDense(U, activation="tanh", name="encoder")
    code = encoder(left)
    return keras.Model([left, right], [code, *sd.TransposedDense(tied_to=encoder)([right, code])])


BRANCHES = {
    "query": {"kernel": "text"},
    "item": {"kernel": "text", "bias": None, "trains_kernel": False, "activation": "relu"},
    "text": {"kernel": "other", "bias": "other", "activation": "gelu"},
}
PAIR, TOWERS = ["left", "right"], {"query": "query", "item": "item"}
NESTED = {"pair": PAIR, "one": {"text": "text"}}
CASES = {
    "list": Case(
        one_layer(activation="gelu"), PAIR, (Product((0, 1), (0, 1), 0, (1,), ("gelu",)),)
    ),
    "dict": Case(
        one_layer(activation="relu", use_bias=False),
        TOWERS,
        (Product((0, 1), (0, 1), 0, (), ("relu",)),),
    ),
    "nested": Case(
        # No SavedModel gives out what is nested; it takes it in.
        one_layer(keras.tree.flatten, activation="sigmoid", dtype="float64"),
        NESTED,
        (Product((0, 1, 2), (0, 1, 2), 0, (1,), ("sigmoid",)),),
        "float64",
    ),
    "bfloat16": Case(
        one_layer(activation="tanh", dtype="mixed_bfloat16"),
        PAIR,
        (Product((0, 1), (0, 1), 0, (1,), ("tanh",)),),
        "bfloat16",
    ),
    "branches": Case(
        one_layer(branches=BRANCHES, activation="tanh"),
        {name: name for name in BRANCHES},
        (
            Product((0, 1), (0, 1), 0, (None, 2), ("relu", "tanh"), untrained=(0,)),
            Product((2,), (2,), 1, (3,), ("gelu",)),
        ),
    ),
    "tied": Case(
        tied,
        PAIR,
        (
            Product((0,), (0,), 0, (1,), ("tanh",)),
            Product((1, 2), (1, 2), 0, (2,), ("linear",), transposed=True),
        ),
        without_loss=(2,),
    ),
    "subclassed": Case(
        lambda structure: Heads(),
        TOWERS,
        (
            Product((0, 1), (2, 3), 0, (1,), ("tanh",)),
            Product((0, 1), (0, 1), 2, (), ("relu",)),
        ),
    ),
}


def draw(seed, shape):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def inputs_of(case, batch=BATCH):
    """The same numbers in every process; of a smaller batch the first rows."""

    def one(name):
        return draw(sum(name.encode()), (BATCH, *SHAPES[name]))[:batch]

    return keras.tree.map_structure(one, case.structure)


def far_targets(outputs):
    """So far from any output that the mean absolute error has slope -1 or 1 over their count."""
    return [1e3 * np.sign(draw(i, y.shape)) for i, y in enumerate(keras.tree.flatten(outputs))]


def loss_weights(case, outputs):
    """One weight for each output, in the structure that compile() takes."""
    count = len(keras.tree.flatten(outputs))
    weights = [0.0 if i in case.without_loss else 1.0 for i in range(count)]
    return keras.tree.pack_sequence_as(outputs, weights)


def made(case):
    model = case.make(case.structure)
    model(inputs_of(case))
    return model


class Seen:
    """What a process leaves behind."""

    def __init__(self):
        self.arrays, self.said = {}, {}

    def put(self, key, structure):
        for i, x in enumerate(keras.tree.flatten(structure)):
            x = np.asarray(x)
            wide = x.dtype.name if x.dtype.name in ("float32", "float64") else "float32"
            self.arrays[f"{key}/{i}"] = x.astype(wide)

    def error(self, key, function):
        try:
            function()
        except Exception as error:
            self.said[key] = f"{type(error).__name__}: {error}"
        else:
            self.said[key] = ""

    def write(self, results):
        np.savez(f"{results}.npz", **self.arrays)
        Path(f"{results}.json").write_text(json.dumps(self.said))


def train(model, case):
    x = inputs_of(case)
    outputs = model(x)
    targets = keras.tree.pack_sequence_as(outputs, far_targets(outputs))
    model.train_on_batch(x, targets)


def put_model(seen, key, model, case):
    seen.put(f"{key}/weights", model.get_weights())
    seen.put(f"{key}/outputs", model.predict(inputs_of(case), verbose=0))
    seen.put(f"{key}/fewer", model.predict(inputs_of(case, FEWER), verbose=0))


def put_training(seen, key, model, case):
    """The state of the optimizer, and where its next step leads."""
    seen.put(f"{key}/optimizer", [v.numpy() for v in model.optimizer.variables])
    train(model, case)
    seen.put(f"{key}/trained", model.get_weights())


def save(folder, seen):
    import shared_dense as sd

    for name, case in CASES.items():
        model, files = made(case), folder / name
        files.mkdir(parents=True)
        model.set_weights([draw(i, w.shape) for i, w in enumerate(model.get_weights())])
        outputs = model(inputs_of(case))
        loss = keras.tree.map_structure(lambda _: "mae", outputs)
        optimizer = keras.optimizers.SGD(RATE, momentum=MOMENTUM)
        model.compile(optimizer, loss, loss_weights=loss_weights(case, outputs))
        for _ in range(2):
            train(model, case)
        put_model(seen, name, model, case)  # traced before it is exported
        model.save(files / "model.keras")
        model.save_weights(files / "model.weights.h5")
        # The signature of a subclassed model names its inputs args_0, args_0_1 unless it is told.
        options = {"verbose": False, "input_signature": None}
        if not hasattr(model, "operations"):
            options["input_signature"] = [keras.tree.map_structure(wanted, case.structure)]
        if sd.status().available:
            model.export(files / "op", **options)
        with sd.fallback():
            model.export(files / "portable", **options)
        put_training(seen, name, model, case)
    if sd.status().available:
        save_trainer(folder / "trainer/op")
    with sd.fallback():
        save_trainer(folder / "trainer/portable")


def wanted(name):
    return keras.InputSpec(dtype="float32", shape=(None, *SHAPES[name]), name=name)


def save_trainer(folder):
    """A SavedModel that trains itself: a module with a step of gradient descent."""
    import shared_dense as sd

    wants = [tf.TensorSpec([None, *SHAPES[n]], name=n) for n in PAIR]
    flows = [tf.TensorSpec([None, *SHAPES[n][:-1], U], name=f"{n}_grad") for n in PAIR]

    class Trainer(tf.Module):
        def __init__(self):
            super().__init__()
            self.kernel, self.bias = tf.Variable(draw(0, (K, U))), tf.Variable(draw(1, (U,)))

        @tf.function(input_signature=wants + flows)
        def step(self, left, right, left_grad, right_grad):
            with tf.GradientTape() as tape:
                outputs = sd.shared_matmul([left, right], self.kernel, self.bias, "gelu")
            kernel, bias = tape.gradient(
                outputs, [self.kernel, self.bias], output_gradients=[left_grad, right_grad]
            )
            self.kernel.assign_sub(RATE * kernel)
            self.bias.assign_sub(RATE * bias)
            return outputs

    module = Trainer()
    tf.saved_model.save(module, folder, signatures={"train": module.step})


def load(folder, seen, refused):
    some = sorted(folder.glob("*/list/op"))[0]
    # Before anything is loaded, though shared_dense is imported.
    seen.error("no op", lambda: tf.saved_model.load(some))
    seen.error("import", lambda: __import__("shared_dense.load_op"))
    seen.error("converter", lambda: converted(some))
    for files in sorted(folder.glob("*/*")):
        key = f"{files.parent.name}/{files.name}"
        if files.name == "trainer":
            for form in forms(files, seen):
                load_trainer(seen, f"{key}/{form}", files / form)
            continue
        case = CASES[files.name]
        for form in forms(files, seen):
            load_served(seen, f"{key}/{form}", files / form, case)
        if refused:
            if case.dtype == "float32":  # LiteRT has kernels of no other
                load_lite(seen, f"{key}/lite", converted(files / "portable"), case)
            continue
        model = keras.models.load_model(files / "model.keras")
        put_model(seen, f"{key}/keras", model, case)
        put_training(seen, f"{key}/keras", model, case)
        model = made(case)
        model.load_weights(files / "model.weights.h5")
        put_model(seen, f"{key}/weights", model, case)
    if refused:
        some = sorted(folder.glob("*/list/model.keras"))[0]
        seen.error("keras", lambda: keras.models.load_model(some))
        with open("/proc/self/maps") as maps:
            seen.said["opened"] = "_ops_tf" in maps.read()
    else:
        import shared_dense as sd

        seen.said["path"], seen.said["from"] = sd.status().last_path, sd.__file__


def forms(files, seen):
    """The SavedModels there, as far as this process has what they need."""
    found = [form for form in ("op", "portable") if (files / form).exists()]
    return found if seen.said["import"] == "" else [form for form in found if form != "op"]


def load_served(seen, key, folder, case):
    x = inputs_of(case)
    model = tf.saved_model.load(folder)
    with tf.GradientTape() as tape:
        outputs = model.serve(x)
        parts = keras.tree.flatten(outputs)
        # As in training.
        weights = keras.tree.flatten(loss_weights(case, outputs))
        terms = zip(weights, parts, far_targets(outputs), strict=True)
        loss = tf.add_n(
            [w * tf.reduce_mean(tf.abs(tf.cast(y, "float64") - t)) for w, y, t in terms]
        )
    seen.put(f"{key}/weights", model.trainable_variables)
    seen.put(f"{key}/gradients", tape.gradient(loss, model.trainable_variables))
    seen.put(f"{key}/outputs", outputs)
    seen.put(f"{key}/fewer", model.serve(inputs_of(case, FEWER)))
    seen.put(f"{key}/none", model.serve(inputs_of(case, 0)))
    seen.put(f"{key}/layer", keras.layers.TFSMLayer(folder, call_endpoint="serve")(x))
    served = model.signatures["serving_default"]
    named = dict(zip(keras.tree.flatten(case.structure), keras.tree.flatten(x), strict=True))
    seen.said[f"{key}/inputs"] = sorted(served.structured_input_signature[1])
    served = served(**{name: tf.constant(a) for name, a in named.items()})
    seen.said[f"{key}/outputs"] = sorted(served)
    seen.put(f"{key}/served", [served[name] for name in sorted(served)])


def load_trainer(seen, key, folder):
    module, case = tf.saved_model.load(folder), CASES["list"]
    left, right = inputs_of(case)
    outputs = module.step(left, right, *(draw(2, (*x.shape[:-1], U)) for x in (left, right)))
    seen.put(f"{key}/outputs", outputs)
    seen.put(f"{key}/trained", [module.kernel, module.bias])


def converted(folder):
    return tf.lite.TFLiteConverter.from_saved_model(str(folder)).convert()


def load_lite(seen, key, lite, case):
    runner = tf.lite.Interpreter(model_content=lite).get_signature_runner("serving_default")
    seen.said[f"{key}/inputs"] = sorted(runner.get_input_details())
    names = keras.tree.flatten(case.structure)
    for what, batch in (("outputs", BATCH), ("fewer", FEWER)):
        x = keras.tree.flatten(inputs_of(case, batch))
        found = runner(**dict(zip(names, x, strict=True)))
        seen.put(f"{key}/{what}", [found[name] for name in sorted(found)])


def main(what, folder, results, *options):
    seen = Seen()
    if options:
        sys.modules["shared_dense"] = None  # wherever it is installed, it is not found
    else:
        import shared_dense  # noqa: F401
    if what == "save":
        save(Path(folder), seen)
    else:
        load(Path(folder), seen, refused=bool(options))
    seen.write(results)


if __name__ == "__main__":
    main(*sys.argv[1:])
