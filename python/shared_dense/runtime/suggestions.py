"""What a user may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


def nearest(name: Any, options: Iterable[str]) -> str:
    """A question that names what the user may have meant, or nothing."""
    close = difflib.get_close_matches(str(name), list(options), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
