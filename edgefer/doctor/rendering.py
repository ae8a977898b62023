"""A diagnosis for a person, and for a program."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from edgefer import __version__
from edgefer.doctor.abilities import Ability, abilities_of
from edgefer.doctor.diagnosis import Diagnosis
from edgefer.doctor.facts import facts_of
from edgefer.doctor.remedies import for_measuring, kind_of

SCHEMA: Final = 1


def to_json(found: Diagnosis) -> dict[str, Any]:
    """One object; its keys are those of docs/doctor.md, and the same on every machine."""
    return {
        "schema": SCHEMA,
        "edgefer": __version__,
        "kind": kind_of(found),
        "facts": {fact.key: fact.to_dict() for fact in facts_of(found)},
        "abilities": {ability.key: ability.to_dict() for ability in abilities_of(found)},
        "before_measuring": list(for_measuring(found)),
    }


def lines(found: Diagnosis) -> Iterator[str]:
    """The facts, one a line; what edgefer can do here; what to type for the rest."""
    facts, abilities = facts_of(found), abilities_of(found)
    width = max(len(fact.title) for fact in facts)
    for fact in facts:
        yield f"{fact.title:<{width}}  {fact.text}"
    yield ""
    yield "What edgefer can do here"
    for ability in abilities:
        yield f"  {'yes' if ability.works else 'no ':<3}  {ability.what}{f': {ability.why}' if ability.why else ''}"
    rest = _rest(abilities)
    if rest:
        yield ""
        yield "To get the rest"
        for commands, wants in rest.items():
            yield f"  to {'; to '.join(wants)}"
            yield from (f"    {command}" for command in commands)
    before = for_measuring(found)
    if before:
        yield ""
        yield "Before you measure"
        yield from (f"    {command}" for command in before)


def _rest(abilities: tuple[Ability, ...]) -> dict[tuple[str, ...], list[str]]:
    """Commands → what they are for: two abilities that lack the same are one entry."""
    found: dict[tuple[str, ...], list[str]] = {}
    for ability in abilities:
        if not ability.works and ability.commands:
            found.setdefault(ability.commands, []).append(ability.what)
    return found
