"""What the layers share as Keras sees them: calls on structures of inputs."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence, Set
from numbers import Number
from types import FrameType
from typing import Any

import keras
import numpy as np

from shared_dense.keras import compat
from shared_dense.keras.structures import are_eager, is_tensor, leaves


class _Nothing:
    """Stands for an argument that is not there, as None may be one."""

    def __repr__(self) -> str:
        return "..."


_NONE: Any = _Nothing()


class StructuredLayer:
    """Mixed into the layers: one argument, a tensor or any structure of tensors."""

    takes_ragged = False

    def __call__(self, inputs: Any = _NONE, *others: Any, **kwargs: Any) -> Any:
        """Calls the layer, as Keras does.

        Raises:
            TypeError: there is no argument, or several that are no structure; or an input is a
                number, a string, an array of objects, a ragged tensor, or a symbolic tensor of
                another Keras (`tf_keras`).
            ValueError: there is no input, or one is None; or a Sequential that the layer is in
                gives it the first of several inputs.
        """
        if others or inputs is _NONE:  # Keras would take the second for `training`
            count = 0 if inputs is _NONE else 1 + len(others)
            raise TypeError(
                f"{self._title()} takes its inputs as one argument: a list, a tuple or a dict, as "
                f"in layer([a, b]). It was given {count or 'no'} arguments."
            )
        if not isinstance(inputs, (dict, list, tuple)):
            self._must_be_all(sys._getframe(1))
        if keras.backend.backend() != "tensorflow":
            self._must_be_tensors(inputs)
            return super().__call__(inputs, **kwargs)
        from shared_dense.runtime import paths

        before = paths.last_here()
        outputs = None if kwargs else self._at_once(inputs)
        if outputs is None:
            self._must_be_tensors(inputs)
            outputs = super().__call__(inputs, **kwargs)
        if paths.last_here() is not before:  # a layer that multiplies nothing takes no path
            paths.remember_for(self)
        return outputs

    def _at_once(self, inputs: Any) -> Any:
        """The outputs, by `call` alone; None where Keras does more, or has an error to tell."""
        # A class says so itself: a subclass may have a hook that Keras calls.
        if not vars(type(self)).get("keras_adds_nothing", False):
            return None
        import tensorflow as tf

        xs = keras.tree.flatten(inputs)
        if not (are_eager(xs) and tf.executing_eagerly() and compat.keras_adds_nothing(self, xs)):
            return None
        try:
            return self.call(inputs)
        except Exception:  # Keras's way comes to it again, and tells it in Keras's words
            return None

    def _must_be_all(self, caller: FrameType) -> None:
        """Raises where a Sequential that this layer is in gives it the first of several inputs."""
        dropped = compat.dropping_sequential(caller)
        if dropped is not None:
            name, count = dropped
            raise ValueError(
                f'Sequential "{name}" was called on {count} inputs, knows of one, and would drop '
                f"the others, which {self._title()} never sees. Call shared_dense.Shared(model) on "
                "them, which computes them together."
            )

    def _must_be_tensors(self, inputs: Any) -> None:
        """Raises unless Keras can take every leaf for a tensor, in words that name the leaf."""
        flat = keras.tree.flatten(inputs)
        if are_eager(flat):
            return
        found = list(leaves(inputs, is_tensor))
        if not found:
            raise ValueError(
                f"{self._title()}: inputs is {inputs!r}, which holds no tensor; pass at least one, "
                "[batch, ..., width]."
            )
        for x in (*flat, *(x for _, x in found)):
            if isinstance(x, (Mapping, Sequence, Set)) and not isinstance(x, (str, bytes)):
                raise TypeError(
                    f"{self._title()}: inputs has a {type(x).__name__}, which is no structure to "
                    "Keras; pass a list, a tuple or a dict."
                )
        for name, x in found:
            if x is None:
                hint = "" if name == "inputs" else ", and leave out what there is none of"
                raise ValueError(f"{self._title()}: {name} is None; pass a tensor{hint}.")
            if isinstance(x, (str, bytes, Number)) and not hasattr(x, "shape"):
                raise TypeError(
                    f"{self._title()}: {name} is {x!r}, no tensor. A list is a structure of inputs "
                    "here, each of them a tensor: pass numpy.array(...) for one input, or a list "
                    "of such arrays for several."
                )
            if isinstance(x, np.ndarray) and x.dtype.hasobject:
                raise TypeError(
                    f"{self._title()}: {name} is a NumPy array of objects, which an array becomes "
                    "whose rows differ in length; pass an array of numbers, or a list of arrays "
                    "for several inputs."
                )
            if type(x).__name__ == "RaggedTensor" and not self.takes_ragged:
                raise TypeError(
                    f"{self._title()}: {name} is a RaggedTensor; pass a dense tensor: "
                    "x.to_tensor(), or x.flat_values, whose rows are those of all of them."
                )
            # That Keras takes the layer for an operation of TensorFlow, without weights to train.
            if type(x).__name__.endswith("KerasTensor") and not isinstance(x, keras.KerasTensor):
                package = type(x).__module__.partition(".")[0]
                raise TypeError(
                    f"{self._title()}: {name} is a symbolic tensor of {package}, but this is a "
                    f"layer of Keras 3, whose weights a model of {package} would not train. In "
                    "such a model call shared_dense.shared_matmul in a layer of your own, with its "
                    "weights; or build the model with keras."
                )

    @property
    def input(self) -> Any:
        """The symbolic inputs of the layer's first call, in their structure.

        Raises:
            AttributeError: the layer was called on no symbolic inputs.
        """
        call = compat.call_of(self, largest=False)
        return super().input if call is None else call[0]

    @property
    def output(self) -> Any:
        """The symbolic outputs of the layer's first call, in the structure of their inputs.

        Raises:
            AttributeError: the layer was called on no symbolic inputs.
        """
        # Keras counts by it the outputs of every call of the layer.
        call = compat.call_of(self, largest=compat.is_of_keras(sys._getframe(1)))
        return super().output if call is None else call[1]

    def _tie_again(self, inputs: Any) -> None:
        """Does nothing; for a layer that was copied from its config, before a symbolic call."""

    def _assert_input_compatibility(self, inputs: Any) -> None:
        """Nothing: Keras would hold `input_spec`, which is of one input, against a structure.

        The layers check the inputs when called.
        """

    def _title(self) -> str:
        return f'{type(self).__name__} layer "{self.name}"'
