"""Help of the command line: sections, examples, suggestions for what was misspelt, errors in one form."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from edgefer.cli.streams import to_nowhere
from edgefer.errors import redacted
from edgefer.limits import text_fault

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

OPTIONS = "Options"
"""The section of options that belong to no other."""

_METAVARS = (
    (click.types.IntParamType, "N"),
    (click.types.FloatParamType, "X"),
    (click.Path, "FILE"),
    (click.types.StringParamType, "TEXT"),
)


class Option(click.Option):
    """An option that knows the section of the help that it stands in; numbers are N and X, without their ranges."""

    def __init__(self, *arguments: Any, needs: str = "", idle_with: str = "", **settings: Any) -> None:
        """``needs`` and ``idle_with`` name another option, ``"--against"`` or ``"--scope paced"``.

        Without the first, and with the second, this one has no effect, and giving it is an error.
        """
        super().__init__(*arguments, **settings)
        self.section = OPTIONS
        self.needs, self.idle_with = needs, idle_with
        if self.metavar is None and not self.is_flag:
            self.metavar = next((name for kind, name in _METAVARS if isinstance(self.type, kind)), None)

    def get_help_extra(self, ctx: click.Context) -> Any:
        """The text in brackets after the help: without the range, which an error states where it matters."""
        extra = super().get_help_extra(ctx)
        extra.pop("range", None)
        return extra


class Command(click.Command):
    """A command whose help shows its options in sections, and examples at the end."""

    def __init__(self, *arguments: Any, examples: Sequence[str] = (), **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.examples = tuple(examples)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, unless an option was given that has no effect."""
        for parameter in self.params:
            typed = ctx.get_parameter_source(str(parameter.name)) is click.core.ParameterSource.COMMANDLINE
            if isinstance(parameter, Option) and typed:
                if parameter.needs and not self._given(ctx, parameter.needs):
                    raise click.UsageError(f"{parameter.opts[0]} has no effect without {parameter.needs}", ctx)
                if parameter.idle_with and self._given(ctx, parameter.idle_with):
                    raise click.UsageError(f"{parameter.opts[0]} has no effect with {parameter.idle_with}", ctx)
            values = ctx.params.get(str(parameter.name))
            for value in values if isinstance(values, tuple) else (values,):
                if isinstance(value, str) and (fault := text_fault(value)):
                    raise click.UsageError(f"{spelt(parameter)} {fault}", ctx)
        from edgefer.progress import each_notice_once

        try:
            with each_notice_once():
                return super().invoke(ctx)
        except BrokenPipeError:  # of what writes line by line: its end is the end of the work
            to_nowhere(1)
            return ctx.exit(0)

    def _given(self, ctx: click.Context, what: str) -> bool:
        flag, _, value = what.partition(" ")
        found = next((ctx.params[str(p.name)] for p in self.params if flag in p.opts), None)
        return found == value if value else found not in (None, False, ())

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a section for each group of options, in the order in which they were declared."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            if record is not None:
                sections.setdefault(getattr(parameter, "section", OPTIONS), []).append(record)
        last = sections.pop(OPTIONS, [])
        for title, records in [*sections.items(), (OPTIONS if not sections else "Other options", last)]:
            with formatter.section(title):
                formatter.write_dl(records)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples as they would be typed."""
        if self.examples:
            with formatter.section("Examples"):
                for example in self.examples:
                    formatter.write(f"{'':>{formatter.current_indent}}{example}\n")


class Group(click.Group):
    """A group that lists its commands in sections, a whole line each, and says which one may have been meant."""

    command_class = Command

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.sections: dict[str, tuple[str, ...]] = {}

    def add_section(self, title: str, *commands: click.Command) -> None:
        """Add ``commands`` and list them under ``title``."""
        for command in commands:
            self.add_command(command)
        self.sections[title] = tuple(str(command.name) for command in commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a line a command: the first line of its docstring, which tests hold to the width of a terminal."""
        sections = self.sections or {"Commands": tuple(self.list_commands(ctx))}
        width = max(len(name) for name in self.commands)
        for title, names in sections.items():
            with formatter.section(title):
                formatter.write_dl([(f"{name:<{width}}", summary(self.commands[name])) for name in names])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which one may have been meant."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            close = difflib.get_close_matches(name, self.commands, n=1)
            fault = click.UsageError(f"there is no command '{ctx.command_path} {name}'", ctx)
            fault.hint = f"did you mean `{ctx.command_path} {close[0]}`?" if close else ""  # type: ignore[attr-defined]
            raise fault
        return super().resolve_command(ctx, args)


def command(name: str | None = None, *, examples: Sequence[str]) -> Callable[[Callable[..., Any]], Command]:
    """Declare a command with at least two lines that a user could type."""
    return click.command(name, cls=Command, examples=examples)


def option(*names: str, **settings: Any) -> Callable[[Decorated], Decorated]:
    """Declare an option, as :func:`click.option` does."""
    return click.option(*names, cls=Option, **settings)


def section(title: str, *decorators: Callable[..., Any]) -> Callable[[Decorated], Decorated]:
    """Apply ``decorators``, the options they add in a section of their own called ``title``."""

    def decorate(function: Decorated) -> Decorated:
        before = list(getattr(function, "__click_params__", ()))
        decorated: Any = function
        for decorator in reversed(decorators):
            decorated = decorator(decorated)
        for parameter in decorated.__click_params__:
            if parameter not in before and isinstance(parameter, Option):
                parameter.section = title
        return decorated  # type: ignore[no-any-return]

    return decorate


def spelt(parameter: click.Parameter) -> str:
    """What a user types for ``parameter``: ``--output``, or the name of an argument."""
    return max(parameter.opts, key=len) if isinstance(parameter, click.Option) else parameter.human_readable_name


def summary(command: click.Command) -> str:
    """The first line of the command's docstring."""
    return (command.help or "").strip().split("\n")[0].removesuffix(".")


def explained(fault: click.UsageError) -> tuple[str, str]:
    """The error and the hint of a wrong command line.

    Returns:
        What is wrong, and what to type instead or where it is explained.
    """
    message = redacted(fault.message if isinstance(fault, click.NoSuchOption) else fault.format_message())
    message = (message[:1].lower() + message[1:] if message[1:2].islower() else message).removesuffix(".")
    if isinstance(fault, click.NoSuchOption):
        message = f"there is no option '{fault.option_name}'"
        if fault.possibilities:
            return message, f"did you mean {' or '.join(sorted(fault.possibilities))}?"
    own = getattr(fault, "hint", "")
    path = fault.ctx.command_path if fault.ctx is not None else "edgefer"
    return message, own or f"`{path} --help` lists what can be typed"
