"""The weights of a SharedDense without branches."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import keras

from shared_dense.keras.dense_call import dense_call
from shared_dense.keras.structures import Shape, Width, fits, leaves, one_width

# Kernel and bias of a layer without branches, and of a branch that names none.
KERNEL, BIAS = "kernel", "bias"


class OneKernel:
    """One kernel and one bias: Dense's own, which Dense makes, saves and loads.

    `Branches` has the same methods. `dense` is the layer as Dense has it (`super()`).

    Attributes:
        names: of the kernels, built or not.
        widths: how wide the inputs of each kernel are, of those where that is known.
    """

    names: tuple[str, ...] = (KERNEL,)

    def __init__(self, layer: keras.layers.Dense):
        self._layer = layer
        self.widths: dict[str, Width] = {}

    def must_go_with(self, feature: str, error: type[Exception] = ValueError) -> None:
        """Nothing: one kernel goes with all that Dense has."""

    def check_names(self, inputs: Any) -> None:
        """Nothing: a structure of inputs may have any names."""

    def shapes(self, structure: Any, is_leaf: Callable[[Any], bool]) -> list[Shape]:
        """The leaves of inputs or of their shapes, each with the kernel that it meets."""
        return [Shape(name, leaf, KERNEL) for name, leaf in leaves(structure, is_leaf)]

    def fits(self, inputs: Any) -> bool:
        """Whether a check of these inputs would find nothing: sooner known so."""
        return self._layer.built and fits(inputs, self.widths[KERNEL].size)

    def built_widths(self, shapes: Iterable[Shape]) -> dict[str, Width]:
        """The widths of the kernels of a built layer, named for errors."""
        return {KERNEL: Width(self.widths[KERNEL].size, "this layer's kernel")}

    def rule(self, kernel: str, width: int, seen: int) -> str:
        """What an input of another width than the kernel's offends against, and what to do."""
        return one_width(self._layer.units, width, seen)

    def build(self, dense: Any, widths: dict[str, Width]) -> None:
        """Makes the weights."""
        self.widths = widths
        dense.build((None, widths[KERNEL].size))

    def kernel(self, dense: Any) -> Any:
        """The kernel, LoRA's part added."""
        return dense.kernel

    def bias(self) -> Any:
        """The bias of a built layer; None if it has none."""
        self._layer._must_be_built("bias")
        return self._layer._bias

    def kernels(self) -> dict[str, Any]:
        """The kernels by name."""
        return {KERNEL: self._layer.kernel}

    def biases(self) -> dict[str, Any]:
        """The biases by name."""
        bias = self._layer.bias
        return {} if bias is None else {BIAS: bias}

    def outputs(self, inputs: Any) -> list[Any]:
        """Of each input, in the order in which Keras flattens them."""
        xs, layer = keras.tree.flatten(inputs), self._layer
        n = len(xs)
        return dense_call(xs, layer.kernel, [layer.bias] * n, [layer.activation] * n)

    def config(self) -> dict[str, Any]:
        """What the layer's config has beside Dense's."""
        return {}

    def save(self, dense: Any, store: Any) -> None:
        """Saves the weights."""
        dense.save_own_variables(store)

    def load(self, dense: Any, store: Any) -> None:
        """Loads what `save` saved."""
        dense.load_own_variables(store)
