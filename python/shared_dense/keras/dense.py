"""SharedDense: keras.layers.Dense, applied to several inputs at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras

from shared_dense.keras import branch_table
from shared_dense.keras.activations import activation_of
from shared_dense.keras.branches import Branches
from shared_dense.keras.dense_call import leave_to_keras
from shared_dense.keras.dense_weights import copy_dense_weights
from shared_dense.keras.one_kernel import KERNEL, OneKernel
from shared_dense.keras.structured_layer import StructuredLayer
from shared_dense.keras.structures import Shape, Width, check, is_shape, is_tensor, known_shape
from shared_dense.runtime.public import public


@public
@keras.saving.register_keras_serializable(package="shared_dense")
class SharedDense(StructuredLayer, keras.layers.Dense):
    """A Dense layer whose kernel, bias and activation are applied to several inputs in one call.

    Takes what `keras.layers.Dense` takes. Called on one tensor it is a Dense layer; called on a
    list, a tuple, a dict or any nesting of these it gives the same structure back, computed by one
    fused op that reads the kernel once and, backwards, makes one kernel gradient.

        encoder = SharedDense(64, activation="relu")
        left, right = encoder([left_images, right_images])

    With `branches`, a table says by the name of an input what it uses. Each kernel and each bias
    that it names is one weight, however many branches use it; a call takes a dict of any of the
    branches, and computes each kernel's share of it by one fused op:

        tower = SharedDense(64, branches={
            "query":    {"kernel": "text"},
            "document": {"kernel": "text", "bias": "document", "activation": "relu"},
            "image":    {"kernel": "image", "bias": None},
        })
        outputs = tower({"query": queries, "image": images})  # a dict of the same names

    An entry of the table may have:

    - `"kernel"`: the name of its kernel, `"kernel"` if it says nothing. Branches of one kernel
      have inputs of one width.
    - `"bias"`: the name of its bias, `"bias"` if it says nothing (None under `use_bias=False`);
      None for no bias.
    - `"activation"`: as for Dense; the layer's, if it says nothing.
    - `"trains_kernel"`: False keeps the branch's gradient out of the kernel, as `stop_gradient`
      around the kernel would, without computing it; the gradients of its input and bias flow.
    - `"in_features"`: the width of its inputs. Needed only for a kernel that no input of the first
      call uses: that call, or `layer.build({"query": (None, 300), ...})`, makes the weights, and
      a call makes none later. `get_config` writes down what is known.

    Weights are named after their kernel and bias: `kernel`, `bias`, `text_kernel`,
    `document_bias`. Initializers, regularizers and constraints apply to each of them.

    Input shape: `[..., in_features]` each, rank >= 2; the widths agree (with `branches`, of those
    that share a kernel), the other axes need not.
    Output shape: `[..., units]` each.

    Keras's own code computes what the op does not know: sparse inputs, quantized layers, kernels of
    whole numbers, and (with `autocast=False`) inputs of a wider dtype than the kernel's.

    Args:
        units: positive integer, the width of the outputs.
        activation: as for Dense.
        use_bias: as for Dense.
        *args: the other arguments of `keras.layers.Dense`, in its order.
        branches: None, or the table described above.
        **kwargs: the other arguments of `keras.layers.Dense`, by name. `lora_rank` and a
            quantized `dtype` do not go with `branches`.

    Attributes:
        kernels: dict of the kernels by name; `{"kernel": layer.kernel}` without `branches`.
        biases: likewise.
        kernel, bias: where there is one, that; AttributeError where there are several.

    Raises:
        ValueError: an argument does not fit; or, from `build` or a call, the inputs are empty, one
            is None or has no known width, their widths differ (a kernel is shared among inputs of
            one width), or they are no dict of branches where there are branches.
    """

    keras_adds_nothing = True  # to `call`, but for what compat.keras_adds_nothing looks at

    def __init__(
        self,
        units: int,
        activation: Any = None,
        use_bias: bool = True,
        *args: Any,
        branches: dict[str, dict[str, Any]] | None = None,
        **kwargs: Any,
    ):
        activation = activation_of(activation, type(self).__name__)
        super().__init__(units, activation, use_bias, *args, **kwargs)
        self.branches = None
        self._named: OneKernel | Branches = OneKernel(self)
        if branches is not None:
            self.branches = branch_table.read(branches, self._title())
            self._named = Branches(self, self.branches)

    @classmethod
    def from_dense(cls, layer: keras.layers.Dense) -> SharedDense:
        """A SharedDense of a Dense layer's config, name and, if it is built, weights.

        Weights are copied, not shared; LoRA's matrices and quantized weights are among them. To
        load a checkpoint that was trained with Dense, load it with Dense and convert the layer.

        Raises:
            TypeError: the layer is no `keras.layers.Dense`, or a subclass of it, which may compute
                something else.
        """
        if type(layer) not in (keras.layers.Dense, SharedDense, cls):
            raise TypeError(
                f"{cls.__name__}.from_dense takes a keras.layers.Dense, got {layer!r}. (A subclass "
                "may compute something else; if this one does not, use from_config and "
                "set_weights.)"
            )
        shared = cls.from_config(layer.get_config())
        if layer.built:
            shared.build_from_config(layer.get_build_config())
            copy_dense_weights(layer, shared)
        return shared

    def to_dense(self) -> keras.layers.Dense:
        """A keras.layers.Dense of this layer's config, name and, if it is built, weights (copied).

        Raises:
            ValueError: the layer has branches.
        """
        self._named.must_go_with("to_dense()")
        dense = keras.layers.Dense.from_config(self.get_config())
        if self.built:
            dense.build((None, self._named.widths[KERNEL].size))
            copy_dense_weights(self, dense)
        return dense

    @property
    def kernel_names(self) -> tuple[str, ...]:
        """The names of all kernels, built or not."""
        return self._named.names

    @property
    def kernels(self) -> dict[str, Any]:
        """The kernels by name, each `[in_features, units]`: those that are built."""
        return self._named.kernels()

    @property
    def biases(self) -> dict[str, Any]:
        """The biases by name, each `[units]`; empty for a layer without."""
        return self._named.biases()

    @property
    def kernel(self) -> Any:
        """The kernel, LoRA's part added, of a layer that has one."""
        return self._named.kernel(super())

    @property
    def bias(self) -> Any:
        """The bias of a layer that has one; None if it has none."""
        return self._named.bias()

    @bias.setter
    def bias(self, value: Any) -> None:
        self._bias = value

    def build(self, input_shape: Any) -> None:
        """Makes the weights, as wide as the inputs.

        Args:
            input_shape: the shape of one input, or a structure of the inputs' shapes; with
                `branches` a dict of shapes, which may have other names than later calls.
        """
        # () is a scalar, or a part of the structure that is empty: call, which follows, can tell.
        shapes = [s for s in self._named.shapes(input_shape, is_shape) if s.sizes not in ((), [])]
        self._named.build(super(), self._check(shapes))

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Applies the layer to one tensor or to each of a structure of them."""
        del training  # Dense does not look at it either
        self._check_tensors(inputs)
        return keras.tree.pack_sequence_as(inputs, self._named.outputs(inputs))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Shape or structure of shapes of the outputs."""
        self._check(self._named.shapes(input_shape, is_shape), makes_kernels=False)
        return keras.tree.map_shape_structure(super().compute_output_shape, input_shape)

    def quantized_call(self, inputs: Any, training: bool | None = None) -> Any:
        """The call of a quantized layer: Keras's own, per input."""
        self._check_tensors(inputs)
        leave_to_keras(f"the layer is quantized ({self.quantization_mode})")
        call = super().quantized_call
        return keras.tree.map_structure(lambda x: call(x, training=training), inputs)

    def quantize(self, mode: Any = None, type_check: bool = True, config: Any = None) -> None:
        """Quantizes in place, as Dense does: int8, int4, float8, gptq or awq.

        Keras's own code computes a quantized layer, input by input. Its calibration for gptq and
        awq looks at one tensor per call: calibrate on one, then call on as many as you like.

        Raises:
            ValueError: the mode is unknown.
            NotImplementedError: the layer has branches. (`model.quantize` warns of that, and
                leaves the layer as it is.)
        """
        self._named.must_go_with("quantize()", NotImplementedError)
        # Dense refuses subclasses, which may compute something else. This one does not; a
        # subclass of it may.
        type_check = type_check and type(self) is not SharedDense
        super().quantize(mode, type_check=type_check, config=config)

    def enable_lora(self, *args: Any, **kwargs: Any) -> None:
        """Adds LoRA's matrices, as Dense does; the kernel of the one fused call is then the sum.

        Raises:
            ValueError: as Dense; or the layer has branches.
        """
        self._named.must_go_with("enable_lora()")
        super().enable_lora(*args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        """What `from_config` takes: Dense's config, and the table if there is one."""
        return {**super().get_config(), **self._named.config()}

    def save_own_variables(self, store: Any) -> None:
        """Saves as Dense does; with branches by the weights' names, in whatever order they are."""
        self._named.save(super(), store)

    def load_own_variables(self, store: Any) -> None:
        """Loads what `save_own_variables` saved.

        Raises:
            ValueError: it is not of these weights.
        """
        self._named.load(super(), store)

    def _must_be_built(self, attribute: str) -> None:
        if not self.built:
            raise AttributeError(
                f"{self._title()} must be built before its {attribute} can be read."
            )

    def _check_tensors(self, inputs: Any) -> None:
        if not self._named.fits(inputs):
            shapes = self._named.shapes(inputs, is_tensor)
            self._check([shape._replace(sizes=known_shape(shape.sizes)) for shape in shapes])

    def _check(self, shapes: Iterable[Shape], makes_kernels: bool = True) -> dict[str, Width]:
        """The widths of the kernels, once the inputs are known to be fit for them."""
        weights = self._named
        widths = weights.built_widths(shapes) if self.built else weights.widths
        return check(self._title(), shapes, widths, weights.rule, makes_kernels)

    def _must_be_tensors(self, inputs: Any) -> None:
        self._named.check_names(inputs)  # first the words that name the branches
        super()._must_be_tensors(inputs)
