"""Draws a case from a seed: a short program of calls of shared_matmul, and how to evaluate it.

A program is straight-line: sources, calls that take sources, outputs of other calls and arithmetic
of these (the same tensor twice, often), more arithmetic, and the outputs that are looked at. Shapes
are tracked, so that programs are valid; and so are the bits that a value needs, so that activations
with a kink get sums that no type has to round.
"""

from __future__ import annotations

import dataclasses
import math
import random

SMOOTH = ["linear", "sigmoid", "tanh", "silu", "gelu", "gelu_tanh"]
KINKED = ["relu", "relu6", "leaky_relu", "elu"]
FUNCTIONS = ["bent", "tf.nn.tanh", "tf.nn.silu", "tf.math.softplus", "tf.identity"]
# Bits of a stored number, and of the sums that a product makes.
BITS = {"float64": (52, 52), "float32": (23, 23), "float16": (10, 23), "bfloat16": (7, 23)}
LARGEST = 4000  # elements of a tensor

# Mode: (weight, how many orders, the orders).
FORWARD = ["jvp", "jvp of gradient", "gradient of jvp"]
MODES = {
    "eager": (95, 0, []),
    "forward": (0.4, 1, FORWARD),
    "jacobians": (0.4, 1, ["jacobian", "jacobian", "hessian"]),
    "graph": (1.2, 1, ["outputs", "gradient", "second", "tf.gradients", "tf.gradients twice"]),
    "graph, tape outside": (0.7, 2, ["outputs", "gradient", "second"]),
    "unknown sizes": (0.7, 1, ["outputs", "gradient", "second", "tf.gradients"]),
    "jit": (1, 1, ["outputs", "gradient", "gradient", "second"]),
    "jit, tape outside": (0.3, 1, ["gradient", "second"]),
    "vectorized": (0.6, 1, ["outputs", "gradient", "gradient", "second"]),
}


@dataclasses.dataclass
class Tensor:
    """A value of the program: how it is written, its shape, and how large and fine it is."""

    name: str
    shape: tuple[int, ...]
    largest: float = 1.0
    fine: float = 2.0  # multiples of 2^-fine; infinite where values are rounded

    @property
    def size(self):
        return math.prod(self.shape)

    @property
    def bits(self):
        return self.fine + math.log2(max(self.largest, 1))


@dataclasses.dataclass
class Case:
    """What a seed stands for; `program.text` makes a program of it."""

    seed: int
    mode: str = "eager"
    orders: list[str] = dataclasses.field(default_factory=list)
    paths: list[str] = dataclasses.field(default_factory=lambda: ["op"])
    dtype: str = "float64"
    context: str = ""
    square: bool = False
    weigh_rows: bool = True
    tensors: list[Tensor] = dataclasses.field(default_factory=list)
    variables: list[Tensor] = dataclasses.field(default_factory=list)
    body: list[str] = dataclasses.field(default_factory=list)
    signature: list | None = None
    makers: str = ""  # of layers: the text that makes them
    layers: bool = False


def pick(r, weighted):
    return r.choices(list(weighted), list(weighted.values()))[0]


def settings(seed, r):
    """A case that has no program yet."""
    mode = pick(r, {name: weight for name, (weight, _, _) in MODES.items()})
    _, count, orders = MODES[mode]
    case = Case(seed, mode, list(dict.fromkeys(r.choices(orders, k=count))))
    if mode == "eager":
        case.orders = ["outputs", "gradient"] + ["second"] * (r.random() < 0.4)
    case.dtype = pick(r, {"float64": 77, "float32": 16, "bfloat16": 5, "float16": 2})
    if mode in ("forward", "jacobians"):
        case.mode, case.dtype = r.choice(["eager", "graph"]), "float64"
    case.square = r.random() < 0.5
    if case.dtype in ("float64", "float32") and r.random() < 0.15:
        case.paths = r.choice([["op", "fallback"], ["fallback"]])
    simple = {"outputs", "gradient", "second"} >= set(case.orders)
    if mode in ("eager", "graph") and simple and r.random() < (0.5 if mode == "graph" else 0.06):
        case.context = r.choice(["cond", "while", "recompute"])
        if case.context == "recompute":  # TensorFlow differentiates it once
            case.orders = [o for o in case.orders if o != "second"] or ["gradient"]
    return case


class Writer:
    """Writes the body of `f`, statement by statement."""

    def __init__(self, case, r):
        self.case, self.r, self.pool, self.count = case, r, [], 0
        self.stored, self.summed = BITS[case.dtype]
        if case.context == "while":  # which halves and adds up
            self.stored, self.summed = self.stored - 6, self.summed - 6
        jacobian = bool({"jacobian", "hessian"} & set(case.orders))
        self.small = jacobian or case.mode == "vectorized"
        # TensorFlow's own jacobians are at a loss where nothing is in a tensor.
        self.empty = 0 if jacobian else 1
        self.widths = {1: 2, 2: 4, 3: 4, 4: 2, 5: 2, 7: 2, 0: 0.3 * self.empty}
        self.widths[17] = 0 if self.small else 0.3

    def width(self):
        return pick(self.r, self.widths)

    def rows(self):
        more = 0 if self.small else 1
        sizes = {0: self.empty, 1: 3, 2: 5, 3: 4, 4: 2, 5: 2, 7: more, 17: more / 4, 33: more / 8}
        return pick(self.r, sizes | {300: more / 25})

    def shape(self, width):
        """Of an input; a long one has no more axes."""
        rank = pick(self.r, {1: 1, 2: 5, 3: 3, 4: 1})
        axes = [self.rows() for _ in range(rank - 1)]
        return (*axes[:1], *(min(a, 3) for a in axes[1:]), width)

    def source(self, shape, name="x"):
        """A new source, sometimes a variable."""
        case = self.case
        variable = name != "x" and self.r.random() < 0.3 and case.context != "recompute"
        variable = variable and not any("tf.gradients" in order for order in case.orders)
        found = Tensor(f"{name}{len(case.tensors) + len(case.variables)}", tuple(shape))
        (case.variables if variable else case.tensors).append(found)
        self.pool.append(found)
        return found

    def new(self, expression, shape, largest=math.inf, fine=math.inf):
        """A statement, and its tensor: exact as long as the case's type can hold it."""
        self.count += 1
        found = Tensor(f"t{self.count}", tuple(shape), largest, fine)
        if found.bits > self.stored:
            found.fine = math.inf
        self.case.body.append(f"{found.name} = {expression}")
        self.pool.append(found)
        return found

    def derived(self, x=None, kind=None):
        """Arithmetic of what is there; None where it would not fit."""
        r = self.r
        x = x or r.choice(self.pool)
        alike = [t for t in self.pool if t.shape == x.shape]
        y = r.choice(alike)
        rank, rows, n = len(x.shape), x.shape[0], x.name
        kind = kind or pick(
            r,
            {
                "twice": 3, "sum": 4, "difference": 2, "product": 2, "reverse": 1, "tail": 1,
                "concat": 1, "stack": 1, "first": 1, "mask": 2, "where": 1, "stop": 0.5,
                "total": 1, "turn": 1, "same": 1,
            },
        )  # fmt: skip
        if kind == "twice":
            return self.new(f"2 * {n}", x.shape, 2 * x.largest, x.fine)
        if kind in ("sum", "difference"):
            sign = "+" if kind == "sum" else "-"
            largest, fine = x.largest + y.largest, max(x.fine, y.fine)
            return self.new(f"{n} {sign} {y.name}", x.shape, largest, fine)
        if kind == "product":
            return self.new(f"{n} * {y.name}", x.shape, x.largest * y.largest, x.fine + y.fine)
        if kind == "reverse" and rank >= 2 and self.case.weigh_rows:
            return self.new(f"{n}[::-1]", x.shape, x.largest, x.fine)
        if kind == "tail" and rank >= 2 and rows and self.case.weigh_rows:
            return self.new(f"{n}[1:]", (rows - 1, *x.shape[1:]), x.largest, x.fine)
        largest, fine = max(x.largest, y.largest), max(x.fine, y.fine)
        if kind == "concat" and rank >= 2 and 2 * x.size <= LARGEST:
            shape = (2 * rows, *x.shape[1:])
            return self.new(f"tf.concat([{n}, {y.name}], 0)", shape, largest, fine)
        if kind == "stack" and 1 < rank <= 3 and 2 * x.size <= LARGEST:
            return self.new(f"tf.stack([{n}, {y.name}])", (2, *x.shape), largest, fine)
        if kind == "first" and rank >= 2 and rows and self.case.weigh_rows:
            return self.new(f"{n}[0]", x.shape[1:], x.largest, x.fine)
        if kind in ("mask", "where") and rank >= 2 and rows and not x.name.startswith("w"):
            flags = [int(r.random() < 0.6) for _ in range(rows)]
            shape = (sum(flags), *x.shape[1:])
            mask = f"mask({', '.join(map(str, flags))})"
            picked = f"tf.boolean_mask({n}, {mask})"
            if kind == "where":
                picked = f"tf.gather({n}, tf.where({mask})[:, 0])"
            if "jit" in self.case.mode:  # its rows are unknown to XLA: no constants of its shape
                self.case.weigh_rows = False
            return self.new(picked, shape, x.largest, x.fine)
        if kind == "stop":
            return self.new(f"tf.stop_gradient({n})", x.shape, x.largest, x.fine)
        if kind == "total" and rank >= 2:
            most = max(rows, 1) * x.largest
            return self.new(f"tf.reduce_sum({n}, 0)", x.shape[1:], most, x.fine)
        if kind == "turn" and rank >= 2:
            shape = (*x.shape[:-2], x.shape[-1], x.shape[-2])
            return self.new(f"tf.linalg.matrix_transpose({n})", shape, x.largest, x.fine)
        if kind == "same":
            return self.new(f"tf.identity({n})", x.shape, x.largest, x.fine)
        return None

    def of_shape(self, shape, name, reuse=0.6):
        """A tensor of a shape: one that is there, or a new source."""
        found = [t for t in self.pool if t.shape == tuple(shape)]
        if found and self.r.random() < reuse:
            return self.r.choice(found)
        return self.source(shape, name)

    def inputs(self, width):
        r, chosen = self.r, []
        n = pick(r, {1: 2, 2: 6, 3: 4, 4: 1, 5: 1})
        while len(chosen) < n:
            fits = [t for t in self.pool if t.shape and t.shape[-1] == width]
            if chosen and r.random() < 0.45:
                chosen.append(r.choice(chosen))
            elif fits and r.random() < 0.8:
                chosen.append(r.choice(fits[-4:]))
            else:
                chosen.append(self.source(self.shape(width)))
        return chosen

    def activation(self, exact):
        names = SMOOTH + KINKED if exact else SMOOTH
        # elu's second derivative jumps at 0; mapped and compiled gradients take it from the left.
        if "elu" in names and (self.case.mode != "eager" or self.small):
            names = [name for name in names if name != "elu"]
        if self.r.random() < 0.15:
            return self.r.choice(FUNCTIONS)
        return repr(self.r.choice([*names, None])) if self.r.random() < 0.9 else "'linear'"

    def call(self):
        """One call of the product."""
        r = self.r
        kernels = [t for t in self.pool if t.name.startswith("w")]
        matrices = [t for t in self.pool if len(t.shape) == 2]
        if kernels and r.random() < 0.65:
            kernel = r.choice(kernels)
        elif matrices and r.random() < 0.25:
            kernel = r.choice(matrices)
        else:
            width = r.choice(self.pool).shape[-1:] if r.random() < 0.8 else ()
            width = width[0] if width else self.width()
            kernel = self.source((width, width if r.random() < 0.5 else self.width()), "w")
        transposed = r.random() < (0.3 if kernel.shape[0] == kernel.shape[1] else 0.2)
        width, units = reversed(kernel.shape) if transposed else kernel.shape
        xs = self.inputs(width)
        if sum(x.size // max(width, 1) for x in xs) * units > LARGEST:
            return []
        biases = [None] * len(xs)
        form = pick(r, {"none": 3, "one": 4, "list": 4})
        if form == "one":
            biases = [self.of_shape((units,), "b")] * len(xs)
        elif form == "list":
            options = [None, *(self.of_shape((units,), "b") for _ in range(2))]
            biases = [r.choice(options) for _ in xs]

        fine = [kernel.fine + x.fine for x in xs]
        most = [
            max(width, 1) * kernel.largest * x.largest + (b.largest if b else 0)
            for x, b in zip(xs, biases, strict=True)
        ]
        fine = [max(f, b.fine if b else 0) for f, b in zip(fine, biases, strict=True)]
        exact = [f + math.log2(max(m, 1)) <= self.summed for f, m in zip(fine, most, strict=True)]
        arguments = ""
        if form != "none":
            written = [b.name if b else None for b in biases]
            listed = f"[{', '.join(map(str, written))}]"
            arguments += f", bias={written[0] if form == 'one' else listed}"
        if r.random() < 0.6:
            acts = [self.activation(all(exact))] * len(xs)
            arguments += f", activation={acts[0]}"
        else:
            acts = [self.activation(e) for e in exact]
            arguments += f", activation=[{', '.join(acts)}]"
        if transposed:
            arguments += ", transpose_kernel=True"
        trains = pick(r, {"": 6, "False": 0.7, "list": 2.5})
        if trains == "list":
            trains = str([r.random() < 0.6 for _ in xs])
        arguments += f", trains_kernel={trains}" if trains else ""
        outputs = []
        for x, act, f, m in zip(xs, acts, fine, most, strict=True):
            self.count += 1
            keeps = act.strip("'") in ("None", "linear", "relu", "relu6", "tf.identity")
            y = Tensor(f"y{self.count}", (*x.shape[:-1], units), m, f if keeps else math.inf)
            if y.bits > self.stored:
                y.fine = math.inf
            outputs.append(y)
        names = ", ".join(y.name for y in outputs)
        inputs = ", ".join(x.name for x in xs)
        target = names if len(outputs) > 1 else f"{names},"
        self.case.body.append(f"{target} = product([{inputs}], {kernel.name}{arguments})")
        self.pool += outputs
        return outputs

    def finish(self, outputs):
        """What the program returns: some of the outputs, and sums of others."""
        r = self.r
        kept = [y for y in outputs if r.random() < 0.6] or [r.choice(outputs)]
        for _ in range(pick(r, {0: 3, 1: 2, 2: 1})):
            y = r.choice(outputs)
            alike = [t for t in outputs if t.shape == y.shape]
            if r.random() < 0.5:
                added = ", ".join(t.name for t in alike)
                kept.append(self.new(f"tf.add_n([{added}])", y.shape))
            else:
                sign = r.choice("-*+")
                kept.append(self.new(f"{y.name} {sign} {r.choice(alike).name}", y.shape))
        if r.random() < 0.2:
            extra = self.derived()
            kept += [extra] if extra else []
        kept = list({t.name: t for t in kept}.values())
        self.case.body.append(f"return [{', '.join(t.name for t in kept)}]")


def of_products(seed, r):
    """Calls of shared_matmul."""
    case = settings(seed, r)
    w = Writer(case, r)
    outputs = []
    x = w.source(w.shape(w.width()))
    if case.mode.startswith("jit") and r.random() < 0.5:  # sizes that only compiled code knows
        w.derived(x, r.choice(["mask", "where"]))
    for _ in range(pick(r, {1: 4, 2: 4, 3: 1}) if not w.small else 1 + (r.random() < 0.2)):
        for _ in range(pick(r, {0: 4, 1: 3, 2: 1})):
            w.derived()
        outputs += w.call()
    while not outputs:
        outputs += w.call()
    w.finish(outputs)
    return case


def of_cancellation(seed, r):
    """The same rows in two inputs, whose bias gradients cancel: exactly 0."""
    case = Case(seed, orders=["cancelled"])
    case.dtype = pick(r, {"float64": 1, "float32": 1, "bfloat16": 1, "float16": 1})
    case.mode = pick(r, {"eager": 12, "graph": 1})
    w = Writer(case, r)
    width, units = w.width(), w.width()
    shape = w.shape(width)
    x, kernel, bias = (
        w.source(s, n) for s, n in ((shape, "x"), ((width, units), "w"), ((units,), "b"))
    )
    again = x.name if r.random() < 0.5 else w.new(f"tf.identity({x.name})", shape).name
    name = r.choice(SMOOTH)
    case.body += [
        f"y1, y2 = product([{x.name}, {again}], {kernel.name}, {bias.name}, {name!r})",
        "return [y1 - y2]",
    ]
    case.variables, case.tensors = [], [x, kernel, bias]
    return case


def draw(seed):
    """The case of a seed."""
    from fuzz import layers

    r = random.Random(seed)
    case = pick(r, {of_products: 9, layers.of_layers: 1, of_cancellation: 2})(seed, r)
    sources = case.tensors
    if case.mode == "eager" and "outputs" in case.orders:
        names = range(len(case.tensors) + len(case.variables))
        for _ in range(4):
            some = [str(i) for i in names if r.random() < 0.5]
            case.orders.append(" ".join(["gradient in", *some]))
        case.orders = [o for o in dict.fromkeys(case.orders) if o != "gradient in"]
    if case.mode == "unknown sizes":
        case.signature = [
            None if r.random() < 0.2 else [None if r.random() < 0.6 else size for size in x.shape]
            for x in sources
        ]
    if case.mode == "vectorized":
        case.signature = [r.random() < 0.5 for _ in sources]
        case.signature[r.randrange(len(sources))] = True
    return case
