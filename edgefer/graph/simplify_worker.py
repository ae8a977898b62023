"""``python -m edgefer.graph.simplify_worker IN OUT``: onnxsim in its own process, which it may crash."""

from __future__ import annotations

import sys

from edgefer.interrupts import die_with_parent
from edgefer.memory import limit_memory


def main(source: str, target: str) -> int:
    """Simplify ``source`` into ``target``; exit code 0, or 1 with the reason on stderr."""
    die_with_parent()
    limit_memory()
    import onnx

    # onnxsim imports torch where it can, for passes that are not used here: two seconds of three.
    sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        import onnxsim
    except ImportError as cause:
        print(f"onnxsim cannot be imported: {cause}", file=sys.stderr)
        return 1
    model, _ = onnxsim.simplify(onnx.load(source))  # the caller checks the result itself, on faces
    onnx.save(model, target)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
