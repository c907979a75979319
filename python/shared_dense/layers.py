"""SharedDense: keras.layers.Dense, applied to several inputs at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras

from shared_dense import branches as table
from shared_dense.branches import BIAS, KERNEL, Branch
from shared_dense.dense_call import dense_call, leave_to_keras
from shared_dense.dense_weights import copy_dense_weights
from shared_dense.structured_layer import StructuredLayer
from shared_dense.structures import Shape, Width, check, fits, is_shape, is_tensor

from shared_dense.structures import known_shape, leaves, one_width  # isort: skip
from shared_dense.suggestions import activation_of


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
        self.branches = None if branches is None else table.read(branches, self._title())
        self._branches: dict[str, Branch] = {}
        self._widths = {}
        if self.branches is None:
            return
        used = {"lora_rank": self.lora_rank, "a quantized dtype": self.quantization_mode}
        for feature in used:
            if used[feature]:
                raise ValueError(self._no_branches_with(feature))
        self._branches = table.resolve(self.branches, self.activation, self.use_bias)
        self._widths = table.widths(self._branches, self._title())

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
        if self.branches is not None:
            raise ValueError(self._no_branches_with("to_dense()"))
        dense = keras.layers.Dense.from_config(self.get_config())
        if self.built:
            dense.build((None, self._widths[KERNEL].size))
            copy_dense_weights(self, dense)
        return dense

    @property
    def kernel_names(self) -> tuple[str, ...]:
        """The names of all kernels, built or not."""
        if self.branches is None:
            return (KERNEL,)
        return tuple(dict.fromkeys(branch.kernel for branch in self._branches.values()))

    @property
    def kernels(self) -> dict[str, Any]:
        """The kernels by name, each `[in_features, units]`: those that are built."""
        if self.branches is None:
            return {KERNEL: self.kernel}
        self._must_be_built("kernels")
        return dict(self._kernels)

    @property
    def biases(self) -> dict[str, Any]:
        """The biases by name, each `[units]`; empty for a layer without."""
        if self.branches is None:
            return {} if self.bias is None else {BIAS: self.bias}
        self._must_be_built("biases")
        return dict(self._biases)

    @property
    def kernel(self) -> Any:
        """The kernel, LoRA's part added, of a layer that has one."""
        return super().kernel if self.branches is None else self._only("kernel", self.kernels)

    @property
    def bias(self) -> Any:
        """The bias of a layer that has one; None if it has none."""
        if self.branches is None:
            self._must_be_built("bias")
            return self._bias
        biases = self.biases
        return self._only("bias", biases) if biases else None

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
        shapes = [s for s in self._shapes(input_shape, is_shape) if s.sizes not in ((), [])]
        self._widths = self._check(shapes)
        if self.branches is None:
            super().build((None, self._widths[KERNEL].size))
            return
        widths = {width.size for width in self._widths.values()}
        if len(widths) == 1:
            self.input_spec = keras.layers.InputSpec(min_ndim=2, axes={-1: widths.pop()})
        self._kernels, self._biases = table.make_weights(self, self._branches, self._widths)
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Applies the layer to one tensor or to each of a structure of them."""
        del training  # Dense does not look at it either
        self._check_tensors(inputs)
        xs = keras.tree.flatten(inputs)
        if self.branches is None:
            outputs = dense_call(
                xs, self.kernel, [self.bias] * len(xs), [self.activation] * len(xs)
            )
        else:
            outputs = self._call_branches(xs, self._branch_of_each(inputs))
        return keras.tree.pack_sequence_as(inputs, outputs)

    def _branch_of_each(self, inputs: dict[str, Any]) -> list[Branch]:
        """In the order in which Keras flattens the inputs."""
        names = {
            name: keras.tree.map_structure(lambda _, name=name: name, part)
            for name, part in inputs.items()
        }
        return [self._branches[name] for name in keras.tree.flatten(names)]

    def _call_branches(self, xs: list[Any], branches: list[Branch]) -> list[Any]:
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

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Shape or structure of shapes of the outputs."""
        self._check(self._shapes(input_shape, is_shape), makes_kernels=False)
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
        if self.branches is not None:
            raise NotImplementedError(self._no_branches_with("quantize()"))
        # Dense refuses subclasses, which may compute something else. This one does not; a
        # subclass of it may.
        type_check = type_check and type(self) is not SharedDense
        super().quantize(mode, type_check=type_check, config=config)

    def enable_lora(self, *args: Any, **kwargs: Any) -> None:
        """Adds LoRA's matrices, as Dense does; the kernel of the one fused call is then the sum.

        Raises:
            ValueError: as Dense; or the layer has branches.
        """
        if self.branches is not None:
            raise ValueError(self._no_branches_with("enable_lora()"))
        super().enable_lora(*args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        """What `from_config` takes: Dense's config, and the table if there is one."""
        config = super().get_config()
        if self.branches is not None:
            config["branches"] = {name: self._spec_config(name) for name in self.branches}
        return config

    def _spec_config(self, name: str) -> dict[str, Any]:
        spec = dict(self.branches[name])
        if "activation" in spec:
            spec["activation"] = keras.activations.serialize(spec["activation"])
        # A copy is built by its first call too, which need not be the one that built this layer.
        width = self._widths.get(self._branches[name].kernel)
        return spec if width is None else {**spec, "in_features": int(width.size)}

    def save_own_variables(self, store: Any) -> None:
        """Saves as Dense does; with branches by the weights' names, in whatever order they are."""
        if self.branches is None:
            super().save_own_variables(store)
            return
        for variable in self._own_variables():
            store[variable.name] = variable

    def load_own_variables(self, store: Any) -> None:
        """Loads what `save_own_variables` saved.

        Raises:
            ValueError: it is not of these weights.
        """
        if self.branches is None:
            super().load_own_variables(store)
            return
        own = {variable.name: variable for variable in self._own_variables()}
        if set(own) != set(store.keys()):
            raise ValueError(
                f"{self._title()}: the weights to load are {sorted(store.keys())}, but the layer "
                f"has {sorted(own)}. Build it with the branches that it was saved with; the "
                "weights of a layer without branches are copied by layer.kernels[name].assign(...)."
            )
        for name, variable in own.items():
            variable.assign(store[name])

    def _own_variables(self) -> list[Any]:
        return [*self._kernels.values(), *self._biases.values()] if self.built else []

    def _must_be_built(self, attribute: str) -> None:
        if not self.built:
            raise AttributeError(
                f"{self._title()} must be built before its {attribute} can be read."
            )

    def _only(self, kind: str, weights: Mapping[str, Any]) -> Any:
        if len(weights) != 1:
            raise AttributeError(
                f"{self._title()} has {len(weights)} weights of the kind {kind!r} "
                f"({', '.join(weights)}); take one by its name from kernels or biases."
            )
        return next(iter(weights.values()))

    def _check_tensors(self, inputs: Any) -> None:
        if self.built and self.branches is None and fits(inputs, self._widths[KERNEL].size):
            return
        self._check(
            shape._replace(sizes=known_shape(shape.sizes))
            for shape in self._shapes(inputs, is_tensor)
        )

    def _shapes(self, structure: Any, is_leaf: Callable[[Any], bool]) -> list[Shape]:
        """The leaves of inputs or of their shapes, each with the kernel that it meets."""
        if self.branches is None:
            return [Shape(name, leaf, KERNEL) for name, leaf in leaves(structure, is_leaf)]
        table.check_names(structure, self._branches, self._title())
        return [
            Shape(name, leaf, self._branches[branch].kernel)
            for branch, part in structure.items()
            for name, leaf in leaves(part, is_leaf, f"inputs[{branch!r}]")
        ]

    def _check(self, shapes: Iterable[Shape], makes_kernels: bool = True) -> dict[str, Width]:
        """The widths of the kernels, once the inputs are known to be fit for them."""
        shapes = list(shapes)
        if self.built:
            table.check_built(shapes, self._branches, self._widths, self._title())
            kernel = "this layer's kernel"
            built = {
                name: Width(width.size, kernel if self.branches is None else f"{kernel} {name!r}")
                for name, width in self._widths.items()
            }
        else:
            built = self._widths
        return check(self._title(), shapes, built, self._rule, makes_kernels)

    def _must_be_tensors(self, inputs: Any) -> None:
        if self.branches is not None:  # first the words that name the branches
            table.check_names(inputs, self._branches, self._title())
        super()._must_be_tensors(inputs)

    def _rule(self, kernel: str, width: int, seen: int) -> str:
        if self.branches is not None:
            return table.one_width(kernel)
        return one_width(self.units, width, seen)

    def _no_branches_with(self, feature: str) -> str:
        return (
            f"{self._title()}: {feature} does not go with branches; use a SharedDense without "
            "branches for each kernel."
        )
