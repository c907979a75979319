"""The weights of `SharedDense(branches=...)`, and what each input uses of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras

from shared_dense.keras import branch_table
from shared_dense.keras.branch_table import Branch, listed
from shared_dense.keras.dense_call import dense_call
from shared_dense.keras.structures import Shape, Width, is_shape, is_tensor, leaves
from shared_dense.runtime.suggestions import nearest


class Branches:
    """Kernels and biases by name, and which of them each input uses. As `OneKernel`.

    Args:
        layer: that has them.
        table: as its user wrote it, read by `branch_table.read`.
        activation: of branches that name none.
    """

    def __init__(self, layer: keras.layers.Dense, table: dict[str, dict[str, Any]]):
        self._layer, self._table = layer, table
        used = {"lora_rank": layer.lora_rank, "a quantized dtype": layer.quantization_mode}
        for feature in used:
            if used[feature]:
                self.must_go_with(feature)
        self._branches = branch_table.resolve(table, layer.activation, layer.use_bias)
        self.widths = branch_table.widths(self._branches, layer._title())
        self.names = tuple(dict.fromkeys(branch.kernel for branch in self._branches.values()))
        self._kernels: dict[str, Any] = {}
        self._biases: dict[str, Any] = {}

    def must_go_with(self, feature: str, error: type[Exception] = ValueError) -> None:
        """Raises for a feature of Dense that several kernels do not go with."""
        raise error(
            f"{self._layer._title()}: {feature} does not go with branches; use a SharedDense "
            "without branches for each kernel."
        )

    def check_names(self, inputs: Any) -> None:
        """Raises ValueError unless inputs is a dict that has names of branches only."""
        title, branches = self._layer._title(), self._branches
        if not isinstance(inputs, dict):
            raise ValueError(
                f"{title}: inputs is {_kind(inputs)}; a layer with branches takes a dict, "
                f"a tensor for any of the names {listed(branches)}."
            )
        if not inputs:
            raise ValueError(
                f"{title}: inputs is empty; pass a tensor for at least one of the names "
                f"{listed(branches)}."
            )
        for name in inputs:
            if name not in branches:
                raise ValueError(
                    f"{title}: inputs has {name!r}, which is none of the branches"
                    f"{nearest(name, branches)}. The branches are {listed(branches)}."
                )

    def shapes(self, structure: Any, is_leaf: Callable[[Any], bool]) -> list[Shape]:
        """The leaves of inputs or of their shapes, each with the kernel that it meets."""
        self.check_names(structure)
        return [
            Shape(name, leaf, self._branches[branch].kernel)
            for branch, part in structure.items()
            for name, leaf in leaves(part, is_leaf, f"inputs[{branch!r}]")
        ]

    def fits(self, inputs: Any) -> bool:
        """False: the names are to be checked, too."""
        return False

    def built_widths(self, shapes: Iterable[Shape]) -> dict[str, Width]:
        """The widths of the kernels of a built layer, named for errors.

        Raises:
            ValueError: an input's kernel is not among them.
        """
        for name, _, kernel in shapes:
            if kernel not in self.widths:
                # One of the branches for each kernel.
                needed = {branch.kernel: name for name, branch in self._branches.items()}.values()
                raise ValueError(
                    f"{self._layer._title()}: {name} uses kernel {kernel!r}, which no input of the "
                    "call that built the layer used, and a built layer makes no new weights. Call "
                    "it first, or build it, with inputs for all its kernels, as in layer.build({"
                    f"{', '.join(f'{branch!r}: (None, width)' for branch in needed)}"
                    "}), or say 'in_features' in the table."
                )
        return {
            name: Width(width.size, f"this layer's kernel {name!r}")
            for name, width in self.widths.items()
        }

    def rule(self, kernel: str, width: int, seen: int) -> str:
        """What a branch of another width than its kernel's offends against, and what to do."""
        return (
            f"Both are for kernel {kernel!r}. A kernel is shared among inputs of one width; give a "
            "branch of another width another kernel."
        )

    def build(self, dense: Any, widths: dict[str, Width]) -> None:
        """Makes the weights as Dense makes its own; none where no width is known."""
        layer, self.widths = self._layer, widths
        sizes = {width.size for width in widths.values()}
        if len(sizes) == 1:
            layer.input_spec = keras.layers.InputSpec(min_ndim=2, axes={-1: sizes.pop()})
        used = [branch for branch in self._branches.values() if branch.kernel in widths]
        self._kernels = {
            name: layer.add_weight(
                name=_weight_name(name, "kernel"),
                shape=(widths[name].size, layer.units),
                initializer=_fresh(layer.kernel_initializer),
                regularizer=layer.kernel_regularizer,
                constraint=layer.kernel_constraint,
            )
            for name in dict.fromkeys(branch.kernel for branch in used)
        }
        self._biases = {
            name: layer.add_weight(
                name=_weight_name(name, "bias"),
                shape=(layer.units,),
                initializer=_fresh(layer.bias_initializer),
                regularizer=layer.bias_regularizer,
                constraint=layer.bias_constraint,
            )
            for name in dict.fromkeys(branch.bias for branch in used)
            if name is not None
        }
        for variable in self._variables():
            # tf.train.Checkpoint and tf.saved_model.save find a variable that is an attribute of
            # its layer, and pass over those in a dict, silently.
            setattr(layer, f"_own_{variable.name}", variable)
        layer.built = True

    def kernel(self, dense: Any) -> Any:
        """The kernel of a layer that has one."""
        return self._only("kernel", self.kernels())

    def bias(self) -> Any:
        """The bias of a layer that has one; None if it has none."""
        biases = self.biases()
        return self._only("bias", biases) if biases else None

    def kernels(self) -> dict[str, Any]:
        """The kernels by name: those that are built."""
        self._layer._must_be_built("kernels")
        return dict(self._kernels)

    def biases(self) -> dict[str, Any]:
        """The biases by name: those that are built."""
        self._layer._must_be_built("biases")
        return dict(self._biases)

    def _only(self, kind: str, weights: Mapping[str, Any]) -> Any:
        if len(weights) != 1:
            raise AttributeError(
                f"{self._layer._title()} has {len(weights)} weights of the kind {kind!r} "
                f"({', '.join(weights)}); take one by its name from kernels or biases."
            )
        return next(iter(weights.values()))

    def outputs(self, inputs: dict[str, Any]) -> list[Any]:
        """Of each input, in the order in which Keras flattens them: a fused call per kernel."""
        xs, branches = keras.tree.flatten(inputs), self._branch_of_each(inputs)
        outputs = [None] * len(xs)
        for kernel in dict.fromkeys(branch.kernel for branch in branches):
            places = [i for i, branch in enumerate(branches) if branch.kernel == kernel]
            group = [branches[i] for i in places]
            results = dense_call(
                [xs[i] for i in places],
                self._kernels[kernel],
                [None if branch.bias is None else self._biases[branch.bias] for branch in group],
                [branch.activation for branch in group],
                trains_kernel=[branch.trains_kernel for branch in group],
            )
            for i, result in zip(places, results, strict=True):
                outputs[i] = result
        return outputs

    def _branch_of_each(self, inputs: dict[str, Any]) -> list[Branch]:
        names = {
            name: keras.tree.map_structure(lambda _, name=name: name, part)
            for name, part in inputs.items()
        }
        return [self._branches[name] for name in keras.tree.flatten(names)]

    def config(self) -> dict[str, Any]:
        """What the layer's config has beside Dense's: the table."""
        return {"branches": {name: self._spec_config(name) for name in self._table}}

    def _spec_config(self, name: str) -> dict[str, Any]:
        spec = dict(self._table[name])
        if "activation" in spec:
            spec["activation"] = keras.activations.serialize(spec["activation"])
        # A copy is built by its first call too, which need not be the one that built this layer.
        width = self.widths.get(self._branches[name].kernel)
        return spec if width is None else {**spec, "in_features": int(width.size)}

    def save(self, dense: Any, store: Any) -> None:
        """Saves the weights by their names, in whatever order they are."""
        for variable in self._variables():
            store[variable.name] = variable

    def load(self, dense: Any, store: Any) -> None:
        """Loads what `save` saved.

        Raises:
            ValueError: it is not of these weights.
        """
        own = {variable.name: variable for variable in self._variables()}
        if set(own) != set(store.keys()):
            raise ValueError(
                f"{self._layer._title()}: the weights to load are {sorted(store.keys())}, but the "
                f"layer has {sorted(own)}. Build it with the branches that it was saved with; the "
                "weights of a layer without branches are copied by layer.kernels[name].assign(...)."
            )
        for name, variable in own.items():
            variable.assign(store[name])

    def _variables(self) -> list[Any]:
        return [*self._kernels.values(), *self._biases.values()]


def _kind(inputs: Any) -> str:
    """What a call was made with, seen from the inputs or from their shapes."""
    # Before the first call Keras gives None for an empty structure.
    if inputs is None or (isinstance(inputs, (list, tuple)) and not inputs):
        return "None or empty"
    if is_shape(inputs) or is_tensor(inputs):
        return "one tensor"
    return f"a {type(inputs).__name__}"


def _weight_name(name: str, kind: str) -> str:
    """'kernel' for the one of no other name, else 'text_kernel'; likewise 'bias'."""
    return kind if name == kind else f"{name}_{kind}"


def _fresh(initializer: Any) -> Any:
    """One for a single weight: called again, an initializer gives the same numbers again."""
    return initializer.clone() if hasattr(initializer, "clone") else initializer
