"""``edgefer web``."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import click

from edgefer.cli import facing, options


@click.command()
@click.argument("engine", required=False, type=options.PATH)
@click.option("--beside", metavar="BASELINE", help="A second engine, weights or network to show side by side.")
@click.option("--report", type=options.PATH, help="What `edgefer bench ENGINE --json` printed, for the accuracy card.")
@facing.finding
@click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0 opens the page to all networks.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free one.")
@click.option(
    "--most-megabytes", type=click.FloatRange(0.1, 1000), default=15.0, show_default=True, help="Of an upload."
)
@options.threads
def web(
    engine: Path | None,
    beside: str | None,
    report: Path | None,
    open_detector: Callable[[], Any],
    level: bool,
    host: str,
    port: int,
    most_megabytes: float,
    threads: int,
) -> None:
    """Try ENGINE (default: the shipped mini_xception) in a browser: pictures, webcam, probabilities.

    Pictures are looked at in memory and not kept; nothing leaves this machine.
    """
    from edgefer.camera.defaults import open_engine
    from edgefer.camera.opencv import cv2
    from edgefer.camera.page import Page, read_report
    from edgefer.camera.serving import address
    from edgefer.engines.load import load_baseline
    from edgefer.progress import announce

    cv2.setNumThreads(threads)
    with ExitStack() as opened:
        engines = [opened.enter_context(open_engine(engine, threads))]
        if beside is not None:
            engines.append(opened.enter_context(load_baseline(beside, threads, contract=engines[0].contract)))
        detector = opened.enter_context(closing(open_detector()))
        measured = None if report is None else read_report(report, engines[0])
        page = Page(engines, detector, level=level, most_bytes=int(most_megabytes * 1e6), report=measured)
        server = opened.enter_context(page.open(host, port))
        announce(f"the page is at {address(server)} (Ctrl-C ends it)")
        if host not in ("127.0.0.1", "localhost", "::1"):
            announce(f"note: everybody who reaches {host} can use it; it has no password and no encryption")
        try:
            server.serve_forever(0.2)
        except KeyboardInterrupt:
            announce("stopped")
