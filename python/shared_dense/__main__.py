"""`python -m shared_dense`: the status, and a ten-second self-check."""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Prints both tables; 0 when every check passed, on whichever path."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import shared_dense

    state = shared_dense.status()
    print(state)
    if not state.tensorflow_running:
        return 1
    try:
        from shared_dense import selfcheck

        checks = selfcheck.run()
        print()
        passed = True
        for check in checks:
            verdict = {True: "ok", False: "FAILED", None: "-"}[check.passed]
            print(f"{check.name:<15} {verdict:<7} {check.detail}")
            passed &= check.passed is not False
    except ValueError as error:  # SHARED_DENSE_ISA names what is not there
        print(f"self-check not run: {error}")
        return 1
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
