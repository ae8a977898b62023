"""The command line: parse, call one function, print. Whatever is heavy is imported inside the commands."""

from __future__ import annotations

import os
import signal
import sys
from importlib.metadata import version

import click

from edgefer.cli.build import build_engine, calibrate, retune, sensitivity
from edgefer.cli.contracts import adopt, contract, import_weights
from edgefer.cli.data import data, models
from edgefer.cli.help import Group, explained
from edgefer.cli.make import export, quickstart, teacher_logits, train
from edgefer.cli.measure import bench, compare, gate, report, sweep
from edgefer.cli.ship import deploy, doctor, inspect
from edgefer.cli.tryout import camera, predict, web
from edgefer.errors import EdgeferError

INTERRUPTED = 130
"""128 + SIGINT, as shells report it."""


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
    """Run the command line; errors are one ``error:`` line and one ``hint:`` line on stderr, exit code 2."""
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
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    sys.exit(code if isinstance(code, int) else 0)
