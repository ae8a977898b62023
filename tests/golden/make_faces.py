"""Write faces.json: the vectors that every implementation of the geometry is held to.

Run from the repository's root after a deliberate change of `edgefer.faces`, and read the difference:
    python tests/golden/make_faces.py
"""

import base64
import json
from pathlib import Path

import numpy as np

from edgefer.contract import Contract, Normalisation
from edgefer.faces import golden_faces, prepare

HERE = Path(__file__).parent
CASES = (
    # source height, width, channels, target, channels, box, margin
    (60, 40, 3, 48, 1, None, 0.0),
    (60, 40, 3, 48, 1, (4.5, 7.25, 30.0, 41.5), 0.1),
    (33, 57, 1, 48, 3, (-6.0, -3.0, 40.0, 50.0), 0.0),
    (100, 90, 3, 17, 3, (10.0, 10.0, 60.0, 60.0), 0.25),
    (20, 20, 1, 64, 1, None, 0.0),
)


def contract(size: int, channels: int, margin: float = 0.0) -> Contract:
    norm = Normalisation(mean=(0.0,) * channels, std=(1.0,) * channels)
    return Contract(("a", "b"), size, size, channels, norm, "none", margin)


def main() -> None:
    cases = []
    for height, width, depth, size, channels, box, margin in CASES:
        frame = golden_faces(contract(max(height, width), depth), 2)[1, :height, :width]
        face = prepare(frame, contract(size, channels, margin), box)
        cases.append(
            {
                "image": base64.b64encode(np.ascontiguousarray(frame).tobytes()).decode(),
                "image_shape": frame.shape,
                "box": box,
                "crop_margin": margin,
                "face": base64.b64encode(face.tobytes()).decode(),
                "face_shape": face.shape,
            }
        )
    (HERE / "faces.json").write_text(json.dumps(cases, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
