"""The kernel that TransposedDense is tied to: of a Dense or an Embedding, quantized or not."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from shared_dense.keras import compat
from shared_dense.keras.one_kernel import KERNEL


def width(layer: keras.layers.Layer) -> int:
    """How wide the inputs of the transposed kernel are."""
    return layer.output_dim if isinstance(layer, keras.layers.Embedding) else layer.units


def names(layer: keras.layers.Layer) -> tuple[str, ...]:
    """The names of the layer's kernels."""
    return tuple(getattr(layer, "kernel_names", (KERNEL,)))


def is_built(layer: keras.layers.Layer, name: str | None) -> bool:
    """Whether there is that kernel (None: the layer's only one)."""
    return layer.built and (name is None or name in layer.kernels)


def in_features(layer: keras.layers.Layer, name: str | None) -> int:
    """How many rows the kernel has, built and quantized as it may be."""
    if isinstance(layer, keras.layers.Embedding):
        return layer.input_dim
    if layer.quantization_mode:
        return layer.input_spec.axes[-1]
    return (layer.kernel if name is None else layer.kernels[name]).shape[0]


def kernel(layer: keras.layers.Layer, name: str | None, dtype: str) -> Any:
    """`[in_features, units]` of floats.

    A variable; or a tensor where it is computed, as dequantized, which then has the dtype given.
    """
    if layer.quantization_mode:
        return ops.cast(_dequantized(layer), dtype)
    if isinstance(layer, keras.layers.Embedding):
        return ops.cast(ops.convert_to_tensor(layer.embeddings), dtype)
    return layer.kernel if name is None else layer.kernels[name]


def _dequantized(layer: keras.layers.Layer) -> Any:
    """The numbers that Keras's quantized layer computes with; how it stores them is Keras's."""
    mode = layer.quantization_mode
    if isinstance(layer, keras.layers.Embedding):
        stored, scale = compat.stored(layer), layer.embeddings_scale
        zero, groups_axis = getattr(layer, "embeddings_zero", None), 1
        lora = ("lora_embeddings_a", "lora_embeddings_b")
        per_row = True
    elif mode == "float8":
        value = ops.convert_to_tensor(layer.kernel)
        rounded = keras.quantizers.quantize_and_dequantize(
            value, ops.convert_to_tensor(layer.kernel_scale), "float8_e4m3fn", value.dtype
        )
        return value + ops.stop_gradient(rounded - value)
    elif mode in ("gptq", "awq"):
        return _calibrated(layer)
    else:
        stored, scale = compat.stored(layer), layer.kernel_scale
        zero, groups_axis = getattr(layer, "kernel_zero", None), 0
        lora = ("lora_kernel_a", "lora_kernel_b")
        per_row = False
    stored, scale = ops.convert_to_tensor(stored), ops.convert_to_tensor(scale)
    if mode == "int4":
        stored = keras.quantizers.unpack_int4(stored, width(layer), axis=-1)
    if zero is not None:
        floats = _of_groups(stored, scale, zero, layer.g_idx, groups_axis)
    else:
        floats = ops.cast(stored, scale.dtype) / (scale[:, None] if per_row else scale)
    if layer.lora_enabled:
        a, b = (ops.convert_to_tensor(getattr(layer, factor)) for factor in lora)
        change = (layer.lora_alpha / layer.lora_rank) * ops.matmul(a, b)
        floats = floats + ops.cast(change, floats.dtype)
    return floats


def _calibrated(layer: keras.layers.Dense) -> Any:
    """The kernel of a layer quantized by gptq or awq: of floats until Keras has calibrated it."""
    mode = layer.quantization_mode
    floats = compat.stored(layer)
    if not getattr(layer, f"is_{mode}_calibrated", False) and floats is not None:
        return ops.convert_to_tensor(floats)
    stored = ops.convert_to_tensor(layer.quantized_kernel)  # [units or half of them, in_features]
    if stored.shape[0] != layer.units:
        stored = keras.quantizers.unpack_int4(stored, layer.units, axis=0, dtype="uint8")
    floats = _of_groups(stored, layer.kernel_scale, layer.kernel_zero, layer.g_idx, 1)
    if mode == "awq":
        floats = floats / ops.convert_to_tensor(layer.awq_scales)
    return ops.transpose(floats)


def _of_groups(stored: Any, scale: Any, zero: Any, group_of: Any, axis: int) -> Any:
    """Integers whose scale and zero point go by groups along an axis."""
    groups = ops.cast(ops.convert_to_tensor(group_of), "int32")
    scale = ops.take(ops.convert_to_tensor(scale), groups, axis=axis)
    zero = ops.take(ops.convert_to_tensor(zero), groups, axis=axis)
    return (ops.cast(stored, scale.dtype) - ops.cast(zero, scale.dtype)) * scale
