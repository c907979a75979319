"""TransposedDense: another layer's kernel, transposed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras

from shared_dense.keras import compat, tied_kernel
from shared_dense.keras.activations import activation_of
from shared_dense.keras.dense_call import add_reason, dense_call
from shared_dense.keras.structured_layer import StructuredLayer
from shared_dense.keras.structures import (
    Shape,
    Width,
    check,
    is_shape,
    is_tensor,
    known_shape,
    leaves,
)
from shared_dense.runtime.public import public
from shared_dense.runtime.suggestions import nearest

_KERNEL = "tied"  # the one kernel, as check() wants a name for it


@public
@keras.saving.register_keras_serializable(package="shared_dense")
class TransposedDense(StructuredLayer, keras.layers.Layer):
    """`activation(x @ transpose(kernel) + bias)`, the kernel being another layer's.

    The other half of a tied autoencoder: the kernel is one weight, which both layers train; the
    bias, as wide as the other layer's inputs, is this layer's own.

        encoder = SharedDense(64, activation="relu")
        decoder = TransposedDense(tied_to=encoder)
        restored = decoder(encoder(images))

    Tied to an Embedding, it projects back to the vocabulary, and the table trains on both uses:

        tokens = keras.layers.Embedding(10_000, 64)
        logits = TransposedDense(tied_to=tokens)(transformer(tokens(ids)))

    Takes one tensor or any structure of tensors, as SharedDense does, in one fused call that reads
    the kernel as it is stored. Where the other layer is quantized, every call makes floats of its
    kernel first.

    Input shape: `[..., units]` each, rank >= 2, `units` being the other layer's (an Embedding's
    `output_dim`).
    Output shape: `[..., in_features]` each (an Embedding's `input_dim`).

    `tied_to` is a sublayer: its weights and its losses are among this layer's. A model that has
    both layers counts them once; outside a model a call of this layer, as of any layer with
    sublayers, clears what the latest call of `tied_to` put into `losses`. Its `trainable` is its
    own: setting this layer's changes the bias alone.

    A model keeps the tie when it is saved and loaded, as `.keras` or as weights. A copy made of
    configs alone (`clone_model`, `from_config`, legacy `.h5` files) ties it again to the layer of
    the same name that its symbolic inputs come through; where there is none, as in a decoder that
    is a model of its own, the copy has a kernel of its own, and a warning says so.

    Args:
        tied_to: the layer whose kernel it is: a SharedDense, a keras.layers.Dense or a
            keras.layers.Embedding; a Dense is built before this layer is.
        activation: as for Dense.
        use_bias: as for Dense.
        bias_initializer: as for Dense.
        bias_regularizer: as for Dense.
        bias_constraint: as for Dense.
        kernel: which kernel, by its name, of a SharedDense that has several (`branches`).
        **kwargs: the arguments of every Keras layer, `activity_regularizer` among them.

    Raises:
        TypeError: `tied_to` is no Dense and no Embedding layer.
        ValueError: `kernel` names none of its kernels, or there are several and it names none;
            from `build` or a call, `tied_to` is not built, or the inputs are not as wide as its
            units.
    """

    keras_adds_nothing = True  # to `call`, but for what compat.keras_adds_nothing looks at

    def __init__(
        self,
        tied_to: keras.layers.Dense | keras.layers.Embedding,
        activation: Any = None,
        use_bias: bool = True,
        bias_initializer: Any = "zeros",
        bias_regularizer: Any = None,
        bias_constraint: Any = None,
        kernel: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if not isinstance(tied_to, (keras.layers.Dense, keras.layers.Embedding)):
            raise TypeError(
                f"{self._title()}: tied_to={tied_to!r}; wanted a SharedDense, a keras.layers.Dense "
                "or a keras.layers.Embedding, whose kernel this layer is to use. (For a weight of "
                "any other layer: shared_dense.shared_matmul(..., transpose_kernel=True).)"
            )
        self._tie_to(tied_to)
        self.kernel_name = kernel
        self._check_kernel_name()
        self.activation = activation_of(activation, self._title())
        self.use_bias = use_bias
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.bias_constraint = keras.constraints.get(bias_constraint)
        self.bias = None
        self.supports_masking = True
        # Whether tied_to was made from this layer's config, and belongs to nothing else.
        self._is_a_copy = False

    def _tie_to(self, layer: keras.layers.Layer) -> None:
        self.tied_to = layer
        if not isinstance(layer.get_config, _ConfigOfTied):
            layer.get_config = _ConfigOfTied(layer)

    def _check_kernel_name(self) -> None:
        names = tied_kernel.names(self.tied_to)
        if self.kernel_name is None and len(names) > 1:
            raise ValueError(
                f"{self._title()}: {self.tied_to.name!r} has the kernels {names}; say which one "
                f"this layer uses, as in kernel={names[0]!r}."
            )
        if self.kernel_name is not None and self.kernel_name not in names:
            raise ValueError(
                f"{self._title()}: kernel={self.kernel_name!r} is none of the kernels of "
                f"{self.tied_to.name!r}, {names}{nearest(self.kernel_name, names)}."
            )

    @property
    def trainable(self) -> bool:
        """Whether this layer's own weights are; those of `tied_to` go by its `trainable`."""
        return keras.layers.Layer.trainable.fget(self)

    @trainable.setter
    def trainable(self, value: bool) -> None:
        compat.set_trainable(self, bool(value), but=self.tied_to)

    def _must_be_built(self) -> None:
        tied_to, name = self.tied_to, self.kernel_name
        if isinstance(tied_to, keras.layers.Embedding) and not tied_to.built:
            tied_to.build()  # which needs no input
        if not tied_kernel.is_built(tied_to, name):
            which = "no kernel yet" if name is None else f"no kernel {name!r} yet"
            raise ValueError(
                f"{self._title()}: {tied_to.name!r}, which it is tied to, has {which}; call or "
                "build that layer first."
            )

    def _out_features(self) -> int:
        self._must_be_built()
        return tied_kernel.in_features(self.tied_to, self.kernel_name)

    def build(self, input_shape: Any) -> None:
        """Makes the bias; `input_shape` is one shape or a structure of shapes."""
        # () is a scalar, or a part of the structure that is empty: call, which follows, can tell.
        shapes = [s for s in _shapes(input_shape, is_shape) if s.sizes not in ((), [])]
        self._check(shapes)
        width = tied_kernel.width(self.tied_to)
        self.input_spec = keras.layers.InputSpec(min_ndim=2, axes={-1: width})
        out_features = self._out_features()
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=(out_features,),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Applies the layer to one tensor or to each of a structure of them."""
        if self._is_a_copy:
            self._warn_of_copy()
        self._check(s._replace(sizes=known_shape(s.sizes)) for s in _shapes(inputs, is_tensor))
        self._must_be_built()
        xs = keras.tree.flatten(inputs)
        outputs = dense_call(
            xs,
            tied_kernel.kernel(self.tied_to, self.kernel_name, self.compute_dtype),
            [self.bias] * len(xs),
            [self.activation] * len(xs),
            transpose_kernel=True,
        )
        if self.tied_to.quantization_mode:
            add_reason(f"the kernel, quantized ({self.tied_to.quantization_mode}), made floats")
        return keras.tree.pack_sequence_as(inputs, outputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Shape or structure of shapes of the outputs."""
        self._check(_shapes(input_shape, is_shape))
        width = self._out_features()
        return keras.tree.map_shape_structure(lambda shape: (*shape[:-1], width), input_shape)

    def compute_output_spec(self, inputs: Any) -> Any:
        """What a call on these symbolic tensors gives."""
        self._tie_again(inputs)
        return super().compute_output_spec(inputs)

    def get_config(self) -> dict[str, Any]:
        """What `from_config` takes; the layer that this one is tied to is in it."""
        return {
            **super().get_config(),
            "tied_to": keras.saving.serialize_keras_object(self.tied_to),
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "bias_regularizer": keras.regularizers.serialize(self.bias_regularizer),
            "bias_constraint": keras.constraints.serialize(self.bias_constraint),
            "kernel": self.kernel_name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> TransposedDense:
        """The layer, tied to the model's own layer while Keras loads a model, else to a copy."""
        tied_to = keras.saving.deserialize_keras_object(config["tied_to"])
        layer = cls(**{**config, "tied_to": tied_to})
        layer._is_a_copy = not _keras_shares_objects()
        return layer

    def _tie_again(self, inputs: Any) -> None:
        """Finds the layer that tied_to is a copy of among those that the inputs come through."""
        if not self._is_a_copy:
            return
        for layer in _layers_before(keras.tree.flatten(inputs)):
            if type(layer) is type(self.tied_to) and layer.name == self.tied_to.name:
                with compat.replaced(self, self.tied_to):
                    self._tie_to(layer)
                self._is_a_copy = False
                return
        self._warn_of_copy()

    def _warn_of_copy(self) -> None:
        self._is_a_copy = False
        warnings.warn(
            f"{self._title()} was copied from its config, and its inputs come through no layer "
            f"{self.tied_to.name!r} that it could be tied to again: it has a kernel of its own "
            "now, tied to nothing else. Save and load the model to copy it with its ties.",
            UserWarning,
            stacklevel=3,
        )

    def _check(self, shapes: Iterable[Shape]) -> None:
        units = Width(
            tied_kernel.width(self.tied_to), f"the transposed kernel of {self.tied_to.name!r}"
        )
        check(self._title(), shapes, {_KERNEL: units}, self._rule)

    def _rule(self, kernel: str, width: int, seen: int) -> str:
        return f"Its inputs are as wide as the outputs of {self.tied_to.name!r}."


class _ConfigOfTied:
    """get_config of a layer that another one is tied to.

    In the file of a model Keras gives an id to what it sees twice: the second time, to both
    entries. Where the first is in a model inside the model, or in another layer's config, it has
    been copied by then, and the copy goes without. So the first time is here, where nothing is kept
    of it.
    """

    def __init__(self, layer: keras.layers.Layer):
        self._layer = layer
        self._is_seeing = False

    def __call__(self) -> dict[str, Any]:
        if not self._is_seeing:
            self._is_seeing = True
            try:
                keras.saving.serialize_keras_object(self._layer)
            finally:
                self._is_seeing = False
        return type(self._layer).get_config(self._layer)


def _shapes(structure: Any, is_leaf: Callable[[Any], bool]) -> list[Shape]:
    return [Shape(name, leaf, _KERNEL) for name, leaf in leaves(structure, is_leaf)]


def _keras_shares_objects() -> bool:
    """Whether Keras is reading a file in which what is one object has one id."""
    config = {
        "module": "keras.initializers",
        "class_name": "Zeros",
        "config": {},
        "registered_name": None,
        "shared_object_id": -1,
    }
    first, second = (keras.saving.deserialize_keras_object(config) for _ in range(2))
    return first is second


def _layers_before(tensors: list[Any]) -> Iterator[keras.layers.Layer]:
    """The layers that symbolic tensors were computed by, those inside models too."""
    for tensor in tensors:
        sources = keras.utils.get_source_inputs(tensor)
        yield from _inner_layers(keras.Function(sources, tensor).operations)


def _inner_layers(operations: Iterable[Any]) -> Iterator[Any]:
    for operation in operations:
        yield operation
        yield from _inner_layers(getattr(operation, "layers", ()))
        if isinstance(operation, keras.layers.Wrapper):
            yield from _inner_layers([operation.layer])
