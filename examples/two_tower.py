"""A two-tower retriever: find the function that a sentence describes.

    python examples/two_tower.py

A query is the first sentence of a docstring of NumPy, SciPy or Keras, its document the rest of it,
both as counts of words.
One table says what the towers share: the kernel is one for both, the biases are each tower's own.
Every other document of a batch is a wrong answer ("in-batch negatives": Karpukhin et al., "Dense
Passage Retrieval", EMNLP 2020). Afterwards the query tower is exported by itself.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
import re
import sys
import tempfile
import zlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

import shared_dense as sd

WORDS = 2048  # a word is one of so many numbers, by its hash
BATCH = 64
BRANCHES = {
    "query": {"kernel": "text", "bias": "query"},
    "document": {"kernel": "text", "bias": "document"},
}
MODULES = (
    *(
        "numpy",
        "numpy.char",
        "numpy.fft",
        "numpy.linalg",
        "numpy.ma",
        "numpy.polynomial.polynomial",
    ),
    *("scipy.linalg", "scipy.ndimage", "scipy.signal", "scipy.special", "scipy.stats"),
    *("keras.layers", "keras.ops"),
)


# --- The data ------------------------------------------------------------------------------------


def docstrings() -> dict[str, str]:
    """By the first sentence of a docstring what follows it: pairs that belong together."""
    found = {}
    for module in map(importlib.import_module, MODULES):
        for name in sorted(set(dir(module))):
            text = inspect.getdoc(getattr(module, name))
            first, _, rest = (text or "").partition("\n\n")
            if re.match(rf"{name}\(", first):  # a signature
                first, _, rest = rest.partition("\n\n")
            if 20 < len(first) < 200 < len(rest):
                found.setdefault(first, rest)
    return found


def vectors(texts) -> np.ndarray:
    """`[texts, WORDS]`: how often a word is in a text, damped, and of length 1."""
    counts = np.zeros((len(texts), WORDS), np.float32)
    for row, text in zip(counts, texts, strict=True):
        for word in re.findall(r"[a-z]{2,}", text.lower()):
            row[zlib.crc32(word.encode()) % WORDS] += 1
    counts = np.log1p(counts)
    return counts / np.linalg.norm(counts, axis=1, keepdims=True)


def load(seed: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Pairs to train on (three in four) and pairs to test with, in the same rows of two arrays."""
    pairs = docstrings()
    order = np.random.default_rng(seed).permutation(len(pairs))
    texts = {
        name: vectors(values)[order]
        for name, values in (("query", list(pairs)), ("document", list(pairs.values())))
    }
    test = len(order) // 4
    return {n: x[test:] for n, x in texts.items()}, {n: x[:test] for n, x in texts.items()}


# --- The model -----------------------------------------------------------------------------------


def build() -> tuple[keras.Model, dict[str, keras.Model]]:
    """The model that scores each query with each document of a batch, and its two towers."""
    embed = sd.SharedDense(256, branches=BRANCHES)

    def encode(texts):
        return {name: keras.ops.normalize(z, axis=1) for name, z in embed(texts).items()}

    texts = {name: keras.Input((WORDS,), name=name) for name in BRANCHES}
    unit = encode(texts)  # both towers, one call
    scores = 20 * keras.ops.matmul(unit["query"], keras.ops.transpose(unit["document"]))
    model = keras.Model(texts, scores)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(), loss)
    # Each tower alone: a call takes any of the branches.
    return model, {name: keras.Model(x, encode({name: x})[name]) for name, x in texts.items()}


def train(model: keras.Model, texts: dict[str, np.ndarray], epochs: int, seed: int) -> list[float]:
    """The loss of each epoch."""
    answers = tf.range(BATCH)  # a query's document is in its own row
    batches = (
        tf.data.Dataset.from_tensor_slices(texts)
        .shuffle(len(texts["query"]), seed=seed)
        .batch(BATCH, drop_remainder=True)
        .map(lambda batch: (batch, answers))
    )
    return model.fit(batches, epochs=epochs, shuffle=False, verbose=0).history["loss"]


def recall(queries: np.ndarray, documents: np.ndarray, k: int) -> float:
    """How often a query's own document is among the k nearest of all."""
    scores = queries @ documents.T
    better = (scores > np.diag(scores)[:, None]).sum(axis=1)
    return float(np.mean(better < k))


def main(arguments: list[str] | None = None) -> int:
    """Trains, prints recall on unseen functions, exports the query tower; 0 if that agrees."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)

    seen, unseen = load(options.seed)
    test = len(unseen["query"])
    keras.utils.set_random_seed(options.seed)
    model, towers = build()

    def recalls():
        embedded = [towers[name].predict(unseen[name], verbose=0) for name in BRANCHES]
        return [recall(*embedded, k) for k in (1, 5, 10)]

    start = recalls()
    losses = train(model, seen, options.epochs, options.seed)
    print(f"{len(seen['query'])} pairs to train on; loss {losses[0]:.4f} -> {losses[-1]:.4f}")
    print(f"\n{test} queries, {test} documents {'recall@1':>10} {'recall@5':>10} {'recall@10':>10}")
    for name, values in (
        ("words in common", [recall(*unseen.values(), k) for k in (1, 5, 10)]),
        ("towers, untrained", start),
        ("towers, trained", recalls()),
    ):
        print(f"{name:<26}", *(f"{value:>10.1%}" for value in values))

    # On its own, for TensorFlow alone to serve: in plain ops, without the op.
    with tempfile.TemporaryDirectory() as folder:
        with sd.fallback():
            towers["query"].export(folder, verbose=False)
        tower = tf.saved_model.load(folder)
        served = tower.serve(unseen["query"])
    difference = np.abs(served - towers["query"](unseen["query"])).max()
    # Unit vectors: the products' errors, relative to them, as in plain.py.
    agree = bool(difference <= 2 * WORDS * 2.0**-24)
    print(
        f"\nexported query tower: largest difference {difference:.1e}: {'OK' if agree else 'FAIL'}"
    )
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
