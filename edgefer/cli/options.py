"""Options that several commands share, so that they read the same everywhere."""

from __future__ import annotations

from pathlib import Path

import click

PATH = click.Path(path_type=Path)

DATA_HELP = (
    "A FER2013 csv or csv.gz, an npz (images, labels), or a folder with a folder a class; PATH:SPLIT picks a split."
)

output = click.option("-o", "--output", type=PATH, required=True, help="The file to write.")
threads = click.option(
    "--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads of the engine."
)
votes = click.option("--votes", default=None, help="FER+ labels: fer2013new.csv, or 'npz' for the votes inside an npz.")
exclude = click.option(
    "--exclude",
    metavar="DATA",
    default=None,
    help="Leave out faces that also stand in DATA, e.g. a separate test file.",
)
seed = click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of every random choice."
)
