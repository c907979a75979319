"""Draws programs of the layers: structures of inputs, branches, a tied layer, several calls.

The truth is a product per input with the same weights, as a Dense layer that is reused makes it.
"""

from __future__ import annotations

from fuzz.cases import KINKED, SMOOTH, Tensor, Writer, pick, settings

# Those that Keras has.
ACTIVATIONS = [name for name in SMOOTH if name != "gelu_tanh"]


def structure(r, names):
    """Inputs as a list, a tuple, a dict, a nesting of them, or the one alone."""
    if len(names) == 1 and r.random() < 0.4:
        return names[0]
    kind = r.choice(["list", "tuple", "dict", "nested"])
    if kind == "list":
        return f"[{', '.join(names)}]"
    if kind == "tuple":
        return f"({', '.join(names)},)"
    if kind == "dict":
        return f"{{{', '.join(f'{chr(122 - i)!r}: {n}' for i, n in enumerate(names))}}}"
    return nested(names)


def nested(names):
    first, *rest = names
    return f"{{'b': ({first},), 'a': [{', '.join(rest)}]}}" if rest else f"[({first},)]"


class Weights:
    """The weights of a program: how ours and plain's variables are written."""

    def __init__(self, case):
        self.case, self.owned = case, []

    def add(self, written, shape):
        """A name for a weight of ours."""
        name = f"v{len(self.owned)}"
        self.owned.append(written)
        self.case.variables.append(Tensor(name, shape))
        return name


def table(r, bases):
    """Branches: two to four, of one or two kernels and biases."""
    kernels = r.choice([["kernel"], ["kernel", "other"]])
    found = {}
    for i in range(r.randint(2, 4)):
        spec = {"kernel": kernels[i % len(kernels)], "bias": r.choice([None, "bias", "own"])}
        if r.random() < 0.6:
            spec["activation"] = r.choice(bases)
        if r.random() < 0.3:
            spec["trains_kernel"] = False
        found[f"n{i}"] = spec
    return found


def of_layers(seed, r):
    """A SharedDense, perhaps with branches, perhaps with a TransposedDense tied to it."""
    case = settings(seed, r)
    case.layers = True
    case.context = "" if case.context == "recompute" else case.context
    case.orders = [o if "tf.gradients" not in o else "gradient" for o in case.orders]
    w, weights = Writer(case, r), Weights(case)
    width = max(w.width(), 1)
    units = width if r.random() < 0.4 else max(w.width(), 1)
    activation, use_bias = r.choice(ACTIVATIONS), r.random() < 0.8
    if r.random() < 0.2 and case.mode == "eager":
        activation = r.choice(KINKED)
    exact_only = activation in KINKED
    branches = table(r, ACTIVATIONS) if r.random() < 0.4 and not exact_only else None
    arguments = f"{units}, activation={activation!r}, use_bias={use_bias}"
    ours, theirs = [], []
    if branches is None:
        kernel = weights.add("encoder.kernel", (width, units))
        bias = weights.add("encoder.bias", (units,)) if use_bias else None
        kernels = {"kernel": kernel}
        ours += [f"encoder = sd.SharedDense({arguments}, dtype=dtype)"]
        ours += [f"encoder.build((None, {width}))"]
        plain = f"reused(product, {kernel}, {bias}, {activation!r})"
    else:
        shapes = dict.fromkeys(branches, (None, width))
        used = [spec[k] for k in ("kernel", "bias") for spec in branches.values()]
        kernels, biases = {}, {None: None}
        for name in dict.fromkeys(used[: len(branches)]):
            kernels[name] = weights.add(f"encoder.kernels[{name!r}]", (width, units))
        for name in dict.fromkeys(used[len(branches) :]):
            if name is not None:
                biases[name] = weights.add(f"encoder.biases[{name!r}]", (units,))
        ours += [f"encoder = sd.SharedDense({arguments}, branches={branches}, dtype=dtype)"]
        ours += [f"encoder.build({shapes})"]
        rows = [
            f"{name!r}: reused(product, {kernels[s['kernel']]}, {biases[s['bias']]}, "
            f"{s.get('activation', activation)!r}, trains_kernel={s.get('trains_kernel', True)})"
            for name, s in branches.items()
        ]
        plain = f"branched({{{', '.join(rows)}}})"
    theirs += [f"encoder = {plain}"]
    names = ["encoder"]
    if r.random() < 0.4:
        names.append("decoder")
        chosen = r.choice(list(kernels))
        second = r.choice(ACTIVATIONS)
        which = "" if branches is None else f", kernel={chosen!r}"
        ours += [
            f"decoder = sd.TransposedDense(encoder, activation={second!r}{which}, dtype=dtype)",
            f"decoder.build((None, {units}))",
        ]
        bias = weights.add("decoder.bias", (width,))
        call = f"{kernels[chosen]}, {bias}, {second!r}, transpose_kernel=True"
        theirs += [f"decoder = reused(product, {call})"]
    body(case, w, width, units, names, branches, exact_only)
    made = "{" + ", ".join(f"{name!r}: {name}" for name in names) + "}"
    variables = ", ".join(v.name for v in case.variables)
    lines = [
        "def ours(dtype, arrays):",
        *(f"    {line}" for line in ours),
        f"    return called({made}, [{', '.join(weights.owned)}], arrays)",
        "\n\ndef theirs(dtype, arrays, product=plain):",
        f"    {variables}, = owned = [tf.Variable(a, dtype=dtype) for a in arrays]",
        *(f"    {line}" for line in theirs),
        f"    return (lambda name, inputs: {made}[name](inputs)), owned",
        "\n\ndef noisy(dtype, seed):",
        "    return lambda wide, arrays: theirs(wide, arrays, Rounded(dtype, seed))\n\n\n",
    ]
    case.makers = "\n".join(lines)
    return case


def body(case, w, width, units, names, branches, exact_only):
    """One to three calls, the later ones of other numbers of inputs and of outputs."""
    r, outputs, sources = w.r, [], []
    for turn in range(pick(r, {1: 3, 2: 3, 3: 1})):
        layer = "encoder" if turn == 0 else r.choice(names)
        wide = width if layer == "encoder" else units
        fits = [t for t in outputs if t.shape[-1] == wide and not exact_only] + [
            t for t in sources if t.shape[-1] == wide
        ]
        inputs = []
        for _ in range(r.randint(1, 4)):
            if inputs and r.random() < 0.4:
                inputs.append(r.choice(inputs))
            elif fits and r.random() < 0.7:
                inputs.append(r.choice(fits))
            else:
                shape = w.shape(wide)
                inputs.append(w.source(shape if len(shape) > 1 else (2, wide)))
                sources.append(inputs[-1])
        written = [x.name for x in inputs]
        if layer == "encoder" and branches is not None:
            chosen = r.sample(list(branches), min(len(written), len(branches)))
            # More inputs than branches: the last branch takes a list.
            parts = dict(zip(chosen, written, strict=False))
            left = written[len(chosen) :]
            if left:
                parts[chosen[-1]] = f"[{', '.join([parts[chosen[-1]], *left])}]"
            inputs_text = "{" + ", ".join(f"{k!r}: {v}" for k, v in parts.items()) + "}"
        else:
            inputs_text = structure(r, written)
        # In the order in which Keras flattens, which is not that of the inputs: by shape.
        case.body.append(f"found{turn} = keras.tree.flatten(call({layer!r}, {inputs_text}))")
        if len(written) == 1 or len({x.shape for x in inputs}) == 1:
            for i, x in enumerate(inputs):
                shape = (*x.shape[:-1], units if layer == "encoder" else width)
                outputs.append(Tensor(f"found{turn}[{i}]", shape, fine=99.0))
        if r.random() < 0.7:
            case.body.append(f"kept{turn} = found{turn}")
        else:
            case.body.append(f"kept{turn} = found{turn}[:1]")
    kept = " + ".join(f"kept{i}" for i in range(turn + 1))
    alike = [t for t in outputs if outputs and t.shape == outputs[0].shape]
    if len(alike) > 1 and r.random() < 0.5:
        kept += f" + [tf.add_n([{', '.join(t.name for t in alike)}])]"
    case.body.append(f"return {kept}")
