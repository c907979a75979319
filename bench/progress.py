"""The bar that says how far the benchmark is; without tqdm there is none."""

from __future__ import annotations

from typing import Any

try:
    from tqdm import tqdm as Bar
except ImportError:

    class Bar:  # type: ignore[no-redef]
        """What `run` calls of tqdm's bar, which does nothing."""

        def __init__(self, **_: Any):
            pass

        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def set_description(self, _: str) -> None:
            """Says what is being timed."""

        def update(self) -> None:
            """Counts a row."""
