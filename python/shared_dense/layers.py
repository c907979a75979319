"""SharedDense: keras.layers.Dense, applied to several inputs at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras


def _is_shape(value: Any) -> bool:
    """Whether this is one shape, not a structure of them. Shapes read from JSON are lists."""
    return isinstance(value, (list, tuple)) and all(
        size is None or isinstance(size, int) for size in value
    )


def _is_tensor(value: Any) -> bool:
    return not isinstance(value, (dict, list, tuple))


def _known_shape(x: Any) -> tuple[int | None, ...] | None:
    """Static shape of a tensor; of one whose rank is unknown, the least that a layer takes."""
    shape = getattr(x, "shape", None)
    if shape is None:
        return None
    return (None, None) if getattr(shape, "rank", 0) is None else tuple(shape)


def _leaves(
    structure: Any, is_leaf: Callable[[Any], bool], name: str = "inputs"
) -> Iterator[tuple[str, Any]]:
    """Leaves of a structure, each with the expression that reaches it: inputs['query']."""
    if is_leaf(structure):
        yield name, structure
    elif isinstance(structure, dict):
        for key, value in structure.items():
            yield from _leaves(value, is_leaf, f"{name}[{key!r}]")
    elif isinstance(structure, (list, tuple)):
        for i, value in enumerate(structure):
            yield from _leaves(value, is_leaf, f"{name}[{i}]")
    else:
        yield name, structure


def _is_wider(x: Any, kernel: Any) -> bool:
    """Whether Dense would compute in another dtype than the kernel's."""
    dtypes = x.dtype.name, kernel.dtype.name
    return dtypes[0] != dtypes[1] and keras.backend.result_type(*dtypes) != dtypes[1]


def _leave_to_keras(reason: str) -> None:
    if keras.backend.backend() == "tensorflow":
        from shared_dense import paths

        paths.took_keras(reason)


def _op_is_used() -> bool:
    if keras.backend.backend() != "tensorflow":
        return False
    from shared_dense import loader

    return not loader.disabled() and loader.load().available


@keras.saving.register_keras_serializable(package="shared_dense")
class SharedDense(keras.layers.Dense):
    """A Dense layer whose kernel, bias and activation are applied to several inputs in one call.

    Takes what `keras.layers.Dense` takes. Called on one tensor it is a Dense layer; called on a
    list, a tuple, a dict or any nesting of these it gives the same structure back, computed by one
    fused op that reads the kernel once and, backwards, makes one kernel gradient.

        encoder = SharedDense(64, activation="relu")
        left, right = encoder([left_images, right_images])

    Input shape: `[..., in_features]` each, rank >= 2; the widths agree, the other axes need not.
    Output shape: `[..., units]` each.

    Keras's own code computes what the op does not know: sparse inputs, quantized layers, and (with
    `autocast=False`) inputs of a wider dtype than the kernel's.

    Args:
        units: positive integer, the width of the outputs.
        activation: as for Dense.
        use_bias: as for Dense.
        **kwargs: the other arguments of `keras.layers.Dense`.

    Raises:
        ValueError: from `build` or a call, when the inputs are empty, one is None or has no known
            width, or their widths differ: a kernel is shared among inputs of one width.
    """

    def __init__(self, units: int, activation: Any = None, use_bias: bool = True, **kwargs: Any):
        super().__init__(units, activation=activation, use_bias=use_bias, **kwargs)
        # One InputSpec rejects lists, and a list of them fixes their number: _check does it.
        self.input_spec = None

    @property
    def supports_jit(self) -> bool:
        """Whether Keras may choose jit_compile by itself: not while the op has no XLA lowering."""
        return self._supports_jit and not _op_is_used()

    @supports_jit.setter
    def supports_jit(self, value: bool) -> None:
        self._supports_jit = value

    def build(self, input_shape: Any) -> None:
        """Makes the weights, as wide as the inputs; `input_shape` is one shape or a structure."""
        # () is a scalar, or a part of the structure that is empty: call, which follows, can tell.
        leaves = [leaf for leaf in _leaves(input_shape, _is_shape) if leaf[1] not in ((), [])]
        _, shape = self._check(leaves)[0]
        self._in_features = shape[-1]
        super().build(tuple(shape))
        self.input_spec = None

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Applies the layer to one tensor or to each of a structure of them."""
        del training  # Dense does not look at it either
        self._check_tensors(inputs)
        if keras.backend.backend() != "tensorflow":
            return keras.tree.map_structure(super().call, inputs)
        return self._call_tensorflow(inputs)

    def quantized_call(self, inputs: Any, training: bool | None = None) -> Any:
        """The call of a quantized layer: Keras's own, per input."""
        self._check_tensors(inputs)
        _leave_to_keras(f"the layer is quantized ({self.quantization_mode})")
        call = super().quantized_call
        return keras.tree.map_structure(lambda x: call(x, training=training), inputs)

    def quantize(self, mode: Any = None, type_check: bool = True, config: Any = None) -> None:
        """Quantizes in place, as Dense does."""
        # Dense refuses subclasses, which may compute something else. This one does not; a
        # subclass of it may.
        type_check = type_check and type(self) is not SharedDense
        super().quantize(mode, type_check=type_check, config=config)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Shape or structure of shapes of the outputs."""
        self._check(_leaves(input_shape, _is_shape))
        return keras.tree.map_shape_structure(super().compute_output_shape, input_shape)

    def _call_tensorflow(self, inputs: Any) -> Any:
        import tensorflow as tf

        from shared_dense.activations import resolve
        from shared_dense.ops import shared_matmul

        leaves = keras.tree.flatten(inputs)
        composite = (tf.SparseTensor, tf.RaggedTensor)
        xs = [x if isinstance(x, composite) else tf.convert_to_tensor(x) for x in leaves]
        kernel = tf.convert_to_tensor(self.kernel)
        if any(isinstance(x, tf.SparseTensor) or _is_wider(x, kernel) for x in xs):
            _leave_to_keras("an input is sparse, or of a wider dtype than the layer")
            return keras.tree.map_structure(super().call, inputs)
        # Keras finds the logits of a sigmoid behind its function or its TensorFlow op, and takes
        # the stable form of the cross-entropy from them: fused, they would be gone and the loss
        # another.
        apart = resolve(self.activation)[0] == "sigmoid"
        outputs = shared_matmul(
            # Keras casts what its policy covers; Dense's matmul casts the rest, integers first.
            [tf.cast(x, kernel.dtype) for x in xs],
            kernel,
            None if self.bias is None else tf.convert_to_tensor(self.bias),
            activation=None if apart else self.activation,
        )
        if apart:
            outputs = [self.activation(y) for y in outputs]
        return keras.tree.pack_sequence_as(inputs, outputs)

    def _check_tensors(self, inputs: Any) -> None:
        self._check((name, _known_shape(x)) for name, x in _leaves(inputs, _is_tensor))

    def _check(self, shapes: Iterable[tuple[str, Any]]) -> list[tuple[str, Any]]:
        """The named shapes, once they are known to be ones that this layer can share a kernel for.

        Raises:
            ValueError: there are none, one is None or no shape, a rank is below 2, or a width is
                unknown, or not the kernel's or (before there is a kernel) the first input's.
        """
        shapes = list(shapes)
        # Before the first call Keras gives None for an empty structure and () for a scalar.
        if not shapes or shapes == [("inputs", None)]:
            raise ValueError(
                f"{self._title()}: inputs is None, empty or a scalar; pass at least one tensor, "
                "[batch, ..., width]."
            )
        width, source = (self._in_features, "this layer's kernel") if self.built else (None, "")
        for name, shape in shapes:
            if shape is None:
                raise ValueError(
                    f"{self._title()}: {name} is None; pass a tensor, and leave out what there is "
                    "none of."
                )
            if len(shape) < 2:
                raise ValueError(
                    f"{self._title()}: {name} has shape {tuple(shape)}; wanted rank >= 2, "
                    "[batch, ..., width]. A single example needs a batch axis: x[None]."
                )
            if shape[-1] is None and width is None:
                raise ValueError(
                    f"{self._title()}: the last axis of {name}, shape {tuple(shape)}, is unknown; "
                    "the kernel is made as wide as that. Give it a size in keras.Input."
                )
            if width is None:
                width, source = shape[-1], name
            if shape[-1] not in (None, width):
                raise ValueError(
                    f"{self._title()}: {name} is incompatible with the layer: it has width "
                    f"{shape[-1]} (shape {tuple(shape)}), but {source} has width {width}. A kernel "
                    "is shared among inputs of one width; to apply a layer to its own output "
                    "(chaining), its units and its width must be equal (here units="
                    f"{self.units}, width={width}). Use another layer for another width."
                )
        return shapes

    def _title(self) -> str:
        return f'SharedDense layer "{self.name}"'
