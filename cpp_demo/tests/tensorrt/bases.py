"""Read TensorRT's NvInferImpl.h and write classes whose every function ends the program, for a fake to override.

    python bases.py FOLDER_OF_HEADERS OUTPUT

What a version asks of an engine differs from the next version's by dozens of functions, of which a test needs ten.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

CLASSES = ("VRuntime", "VCudaEngine", "VExecutionContext")


def base(name: str, header: str) -> str:
    """The class ``Ending<name>``, in which nothing is left to be overridden."""
    found = re.search(rf"^class {name}\b[^{{;]*{{(.*?)^}};", header, re.DOTALL | re.MULTILINE)
    if found is None:
        raise SystemExit(f"error: NvInferImpl.h has no class {name}")
    functions = re.findall(r"virtual ([^;{}]*?)\s*= 0;", found.group(1))
    body = [f"  {' '.join(function.split())} override {{ std::abort(); }}" for function in functions]
    return "\n".join([f"class Ending{name} : public {name} {{", " public:", *body, "};", ""])


def main() -> None:
    folder, output = (Path(argument) for argument in sys.argv[1:])
    header = re.sub(r"//[^\n]*", "", (folder / "NvInferImpl.h").read_text(encoding="utf-8"))
    classes = "\n".join(base(name, header) for name in CLASSES)
    output.write_text(
        f"#include <NvInferRuntime.h>\n#include <cstdlib>\n\nnamespace nvinfer1::apiv {{\n\n{classes}\n}}\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
