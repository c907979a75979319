"""Weights from one layer to another that is made of its config: SharedDense and Dense."""

from __future__ import annotations

from typing import Any

import keras

from shared_dense.keras import compat


def copy_dense_weights(source: keras.layers.Dense, target: keras.layers.Dense) -> None:
    """From one built layer to another of its config, by the code that saves and loads them."""
    store: dict[str, Any] = {}
    source.save_own_variables(store)
    target.load_own_variables(store)
    if source.lora_enabled:  # which saving adds to the kernel
        compat.stored(target).assign(compat.stored(source))
        for name in ("kernel_scale", "kernel_zero", "lora_kernel_a", "lora_kernel_b"):
            if hasattr(source, name):
                getattr(target, name).assign(getattr(source, name))
        target.lora_alpha = source.lora_alpha  # Dense.build forgets it
    # An activation may be a layer: its config builds it, but its weights are Keras's to save apart.
    for old, new in zip(_activations(source), _activations(target), strict=True):
        if isinstance(old, keras.Layer) and old.built:
            new.set_weights(old.get_weights())


def _activations(layer: keras.layers.Dense) -> list[Any]:
    branches = getattr(layer, "branches", None) or {}
    return [layer.activation, *(spec.get("activation") for spec in branches.values())]
