"""``edgefer doctor``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgefer.cli import options

if TYPE_CHECKING:
    from edgefer.doctor.engine import Verdict


@click.command()
@click.argument("engine", type=options.PATH, required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def doctor(engine: Path | None, as_json: bool) -> None:
    """Say what this machine is and what edgefer can do on it; with ENGINE, whether that runs here (exit 1: no)."""
    from edgefer.doctor.diagnosis import diagnose

    if engine is None:
        from edgefer.doctor.rendering import lines, to_json

        found = diagnose()
        click.echo(json.dumps(to_json(found), indent=2) if as_json else "\n".join(lines(found)))
        return
    from edgefer.doctor.engine import judge

    verdict = judge(engine, diagnose())
    if as_json:
        click.echo(json.dumps(verdict.to_json(), indent=2))
    else:
        _print(verdict)
    if not verdict.runs:
        click.get_current_context().exit(1)


def _print(verdict: Verdict) -> None:
    click.echo(f"{verdict.engine}: {verdict.what or 'without a manifest'}")
    if verdict.runs:
        checked = "it answers its golden faces as when it was built"
        click.echo(f"runs here: yes, {checked if verdict.what else 'and there are no golden faces to ask it about'}")
        return
    click.echo(f"runs here: no\nwhy: {verdict.why}")
    if verdict.hint:
        click.echo(f"hint: {verdict.hint}")
    if verdict.install:
        click.echo("\nto run this one, install what it lacks:")
        click.echo("\n".join(f"  {command}" for command in verdict.install))
    click.echo(f"\nto make one that runs here:\n  {verdict.build}")
