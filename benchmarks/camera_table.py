"""The results of benchmarks/camera.py as Markdown."""

from __future__ import annotations

from typing import Any


def camera_table(result: dict[str, Any]) -> str:
    """Videos, the paced source, memory and single pictures: a table each."""
    environment = result["environment"]
    parts = [
        f"{environment['cpu']}, {environment['cores']} cores, OpenCV {environment['opencv']}, {result['network']} in "
        f"FP32, faces: {result['faces']}. A box is right from an intersection over union of 0.5 on. The app is at its "
        "defaults (faces from 60 pixels on, searched for on every third frame, bars drawn); the loop searches each "
        "frame for faces from 24 pixels on, as tutorials do."
    ]
    parts += [] if result["quiet"] else ["**Measured on a busy machine: not to be believed.**"]
    for count, rows in result["videos"].items():
        paced = result["paced"][count]
        lines = [
            [
                f"{count} face{'s' if count != '1' else ''}, 640×480",
                *("frames/s", "over the loop", "right boxes", "cores at 30 fps", "frame to label p95, ms", "dropped"),
            ],
            [":--"] + ["--:"] * 6,
        ]
        for name, row in rows.items():
            slow = paced[name]
            dropped = "–" if slow["dropped"] is None else str(sum(slow["dropped"].values()))
            lines.append(
                [
                    name,
                    f"{row['fps']:.0f}",
                    f"{row['over_loop']:.1f}×",
                    f"{100 * row['right_boxes']:.1f} %",
                    f"{slow['cores']:.2f}",
                    f"{slow['frame_to_label_p95_ms']:.1f}",
                    dropped,
                ]
            )
        parts.append(_table(lines))
    memory = result["memory"]
    parts.append(
        f"Memory over {memory['frames']:,} frames: {memory['grown_mb']:+.1f} MB from the second tenth to the last, "
        f"{memory['resident_mb'][-1]:.0f} MB in all."
    )
    if result["stills"] is not None:
        parts += _stills(result["stills"])
    return "\n\n".join(parts)


def _stills(stills: dict[str, Any]) -> list[str]:
    sides = "/".join(map(str, stills["sides"]))
    tilts = "/".join(f"{tilt:g}" for tilt in stills["tilts"])
    lines = [
        [
            "",
            "found",
            "by side",
            "by tilt",
            "wrong finds",
            "crop IoU, mean",
            "top-1 of the faces",
            "as cut",
            "lost, points",
        ],
        [":--"] + ["--:"] * 8,
    ]
    for name, row in stills["detectors"].items():
        low, high = row["found"]["ci95"]
        for kind, title in (("level", f"{name}, upright"), ("as_is", f"{name}, as they are")):
            evaluated = row[kind]
            interval = " … ".join(f"{v:+.1f}" for v in evaluated["ci95_pp"])
            lines.append(
                [
                    title,
                    f"{100 * row['found']['share']:.1f} % ({100 * low:.1f} … {100 * high:.1f})",
                    " / ".join(f"{100 * v:.0f}" for v in row["found_by_side"].values()),
                    " / ".join(f"{100 * v:.0f}" for v in row["found_by_tilt"].values()),
                    str(row["wrong_finds"]),
                    f"{row['crop_iou']['mean']:.2f}",
                    f"{100 * row['top1_direct']:.1f} %",
                    f"{100 * evaluated['top1']:.1f} %",
                    f"{evaluated['drop_pp']:+.1f} ({interval})",
                ]
            )
    note = (
        f"{stills['faces']:,} test faces pasted into scenes with sides of {sides} pixels and tilts of {tilts}°. "
        "Accuracies are of the faces that were found, paired with the same faces given to the network directly."
    )
    return [note, _table(lines)]


def _table(lines: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
