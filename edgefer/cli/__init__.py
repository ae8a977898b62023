"""The command line: parse, call one function, print. Whatever is heavy is imported inside the commands."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from importlib.metadata import version
from pathlib import Path

import click

from edgefer.cli.build import build_engine, calibrate, retune, sensitivity
from edgefer.cli.contracts import adopt, contract, import_weights
from edgefer.cli.data import data, models
from edgefer.cli.help import Group, explained
from edgefer.cli.make import export, quickstart, teacher_logits, train
from edgefer.cli.measure import bench, compare, gate, report, sweep
from edgefer.cli.ship import deploy, doctor, inspect
from edgefer.cli.streams import prepare_streams
from edgefer.cli.tryout import camera, predict, web
from edgefer.errors import EdgeferError, one_line

INTERRUPTED = 130
"""128 + SIGINT, as shells report it."""
INTERNAL = 70
"""EX_SOFTWARE of sysexits.h: a fault of this program."""
DEBUG = "EDGEFER_DEBUG"
"""Where this variable of the environment is 1, an internal error shows its traceback."""


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(version("edgefer"), prog_name="edgefer")
def cli() -> None:
    """Facial-expression networks from PyTorch to INT8 engines, with proof of the cost.

    The usual way is train, export, build-engine --int8, bench; quickstart does all of it.
    """


cli.add_section(
    "Make", quickstart, train, teacher_logits, import_weights, export, adopt, contract, calibrate, build_engine, retune
)
cli.add_section("Measure", bench, report, compare, gate, sweep, sensitivity)
cli.add_section("Try", predict, camera, web)
cli.add_section("Ship", deploy, doctor, inspect)
cli.add_section("Data", data, models)


def main() -> None:
    """Run the command line; errors are one ``error:`` line and one ``hint:`` line on stderr, exit code 2.

    An exception that is nobody's error of use is an internal one: one line, and exit code 70.
    """
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # a service manager's end is one like Ctrl-C
    prepare_streams()
    try:
        code = cli.main(standalone_mode=False, prog_name="edgefer")
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # the work is done: whoever is impatient cannot make it a failure
    except EdgeferError as fault:
        click.echo(f"error: {fault.message}", err=True)
        if fault.hint:
            click.echo(f"hint: {fault.hint}", err=True)
        sys.exit(fault.exit_code)
    except click.UsageError as fault:
        if isinstance(fault, click.exceptions.NoArgsIsHelpError):
            fault.show()
        else:
            message, hint = explained(fault)
            click.echo(f"error: {message}\nhint: {hint}", err=True)
        sys.exit(2)
    except click.ClickException as fault:
        click.echo(f"error: {fault.format_message()}", err=True)
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        sys.exit(INTERRUPTED)
    except Exception as fault:
        if os.environ.get(DEBUG) == "1":
            raise
        click.echo(_internal(fault), err=True)
        sys.exit(INTERNAL)
    sys.exit(code if isinstance(code, int) else 0)


def _internal(fault: Exception) -> str:
    """What to say of a fault of this program: what it was, where, and what helps to mend it."""
    said = one_line(fault)
    own = [frame for frame in traceback.extract_tb(fault.__traceback__) if "edgefer" in Path(frame.filename).parts]
    where = f" at {Path(own[-1].filename).name}:{own[-1].lineno}" if own else ""
    return (
        f"internal error: {type(fault).__name__}{f': {said}' if said else ''}{where} (edgefer {version('edgefer')})\n"
        f"hint: please report it with the command and, with {DEBUG}=1, the traceback"
    )
