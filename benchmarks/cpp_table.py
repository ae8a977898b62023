"""The results of benchmarks/cpp.py as Markdown."""

from __future__ import annotations

from typing import Any

_PARTS = {
    "turn": "turning",
    "track": "tracking",
    "cut": "cutting out faces",
    "smooth": "smoothing",
    "draw": "overlay",
    "write": "events and stream",
}


def cpp_table(result: dict[str, Any]) -> str:
    """C++ beside Python, then where a frame's milliseconds go in C++."""
    environment, program = result["environment"], result["program"]
    names = list(next(iter(result["films"].values()))["rows"])
    parts = [
        f"{environment['cpu']}, {environment['cores']} cores; {result['network']}, YuNet in OpenVINO, one thread each; "
        f"films of 640×480, faces: {result['faces']}. OpenCV {program['packages']['opencv']} in C++, "
        f"{environment['opencv']} in Python."
    ]
    parts += [] if result["quiet"] else ["**Measured on a busy machine: not to be believed.**"]
    lines = [["", *names, "C++ over Python"], [":--"] + ["--:"] * (len(names) + 1)]
    for count, film in result["films"].items():
        lines += _film_rows(count, film, names)
    start, engine = result["start_up_s"], result["engine_ms"]
    lines.append(_row("start to first label, s", [start[name]["median"] for name in names], "{:.2f}", smaller=True))
    lines.append(_row("engine, one face, p50, ms", [engine[name]["p50"] for name in names], "{:.3f}", smaller=True))
    parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
    for count, film in result["films"].items():
        alike = film["labels_alike"]
        share = "no face" if alike["share"] is None else f"{100 * alike['share']:.2f} % with the same label"
        seen = f"{alike['in_both']:,} of {alike['faces']:,} labelled faces"
        parts.append(f"{_faces(count)}: {seen} stand in the events of both, {share}.")
    parts.append(_overhead(result["frame"]))
    sizes = ", ".join(f"`{name}` {size / 1e3:,.0f} kB" for name, size in result["bytes"].items())
    parts.append(f"Sizes: {sizes}; OpenCV and OpenVINO come on top in both languages. No Python at run time.")
    return "\n\n".join(parts)


def _film_rows(count: str, film: dict[str, Any], names: list[str]) -> list[list[str]]:
    rows = [film["rows"][name] for name in names]
    title = _faces(count)
    speed = [f"{title}, frames/s", *(f"{row['fps']:.0f}" for row in rows), f"{film['over_python']:.2f}×"]
    return [
        speed,
        _row(
            f"{title} at 30 fps: frame to label p95, ms",
            [row["paced"]["frame_to_label_p95_ms"] for row in rows],
            "{:.1f}",
            smaller=True,
        ),
        _row(
            f"{title} at 30 fps: cores, start-up included",
            [row["paced"]["cores"] for row in rows],
            "{:.2f}",
            smaller=True,
        ),
        [f"{title} at 30 fps: dropped", *(str(row["paced"]["dropped"]) for row in rows), "–"],
        _row(f"{title}, largest resident set, MB", [row["rss_mb"] for row in rows], "{:.0f}", smaller=True),
    ]


def _row(title: str, values: list[float | None], shape: str, *, smaller: bool) -> list[str]:
    """C++ first; the ratio is how many times better."""
    cells = ["–" if value is None else shape.format(value) for value in values]
    ours, python = values
    ratio = "–" if not ours or not python else f"{python / ours if smaller else ours / python:.2f}×"
    return [title, *cells, ratio]


def _overhead(frames: dict[str, Any]) -> str:
    """A sentence a film. Waits between the threads count as overhead, as reading the film does not."""
    sentences = []
    for count, frame in frames.items():
        overhead, parts = frame["overhead_ms"], frame["parts_ms"]
        most = sorted(_PARTS, key=lambda part: -parts[part]["mean"])
        detail = ", ".join(f"{_PARTS[part]} {parts[part]['mean']:.3f}" for part in most)
        whole = overhead["mean"] + parts["wait"]["mean"]
        verdict = "under 1 ms, as demanded" if whole < 1 else "the 1 ms demanded is missed"
        sentences.append(
            f"{_faces(count)}: {whole:.3f} ms a frame outside reading, detection and inference, at 30 fps with the "
            f"overlay ({verdict}): {overhead['mean']:.3f} of work (p95 {overhead['p95']:.3f}: {detail}) and "
            f"{parts['wait']['mean']:.3f} of waits between the threads. Reading and decoding the film takes "
            f"{parts['read']['mean']:.3f}."
        )
    return " ".join(sentences)


def _faces(count: str) -> str:
    return f"{count} face{'s' if count != '1' else ''}"
