"""One run of a command: the options that all commands share, and what happens when it fails.

A command is a function that takes a ``Run`` and its own options. ``command()`` registers it with
``--json``, ``--quiet``, ``--config`` and ``--debug`` beside them, and turns whatever it raises into
one line and an exit code.
"""

import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, ParamSpec

import typer

from farm.cli.exitcodes import ExitCode, exit_code
from farm.cli.output import Listener, Output

if TYPE_CHECKING:
    from farm import Client
    from farm.config import Config

__all__ = ["AddressOption", "Run", "app", "command", "command_group"]

P = ParamSpec("P")

app = typer.Typer(
    name="farm",
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
"""All commands; ``farm.cli.main`` fills it."""

AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        "-a",
        metavar="URL",
        help="The farm, tcp://HOST:PORT or ipc://PATH. Default: FARM_ADDRESS, or farm.toml.",
        show_default=False,
    ),
]

SHARED = "Shared by all commands"


@dataclass(frozen=True)
class Run:
    """What a command works with."""

    output: Output
    settings_file: Path | None = None
    debug: bool = False

    def config(self, **flags: Any) -> "Config":
        """The settings, with flags such as ``client_address=...`` (None: not said) on top."""
        from farm.config import load

        dotted = {name.replace("_", ".", 1): value for name, value in flags.items()}
        return load(dotted, named=self.settings_file)

    @contextmanager
    def client(self, address: str | None) -> "Iterator[Client]":
        """A client of the farm, closed at the end without waiting for its tasks."""
        import farm
        from farm.transport import token_said

        config = self.config(client_address=address)
        client = farm.Client(
            config.address,
            connect_timeout=config.client.connect_timeout,
            token=token_said(None, config.client.token_file) or None,
            keys=config.coordinator.keys,
        )
        try:
            yield client
        finally:
            client.shutdown(wait=False)


def command(
    name: str,
    *,
    panel: str,
    examples: Sequence[str],
    settings: dict[str, Any] | None = None,
    group: typer.Typer | None = None,
) -> Callable[[Callable[Concatenate[Run, P], None]], Callable[Concatenate[Run, P], None]]:
    """Register a function as a command; its docstring is the help, ``examples`` end it.

    ``group`` is what ``command_group`` made, for a command of two words; the command without a
    name is what the group does when no second word is said.
    """

    def register(
        function: Callable[Concatenate[Run, P], None],
    ) -> Callable[Concatenate[Run, P], None]:
        def call(**values: Any) -> None:
            # The parser makes lists and flags of the right types from the signature below.
            as_json, quiet = values.pop("as_json"), values.pop("quiet")
            settings_file, debug = values.pop("settings_file"), values.pop("debug")
            if as_json and quiet:
                raise typer.BadParameter("choose one of --json and --quiet")
            listener = Listener.PROGRAM if as_json else Listener.PEOPLE
            listener = Listener.QUIET if quiet else listener
            run = Run(Output(listener), settings_file, debug)
            with _errors(run):
                function(run, **values)  # type: ignore[call-arg]

        _, *own = inspect.signature(function).parameters.values()
        parameters = [*own, *inspect.signature(_shared).parameters.values()]
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        call.__annotations__ = {one.name: one.annotation for one in parameters}
        call.__doc__ = inspect.cleandoc(function.__doc__ or "")
        lines = [f"$ {example}".replace("[", "\\[") for example in examples]
        epilog = "\n\n".join(["[bold]Examples[/bold]", *lines])
        if name:
            (group or app).command(
                name,
                rich_help_panel=panel,
                epilog=epilog,
                context_settings=settings,
                no_args_is_help=False,
            )(call)
        elif group is not None:
            group.callback(invoke_without_command=True, epilog=epilog)(_unless_second_word(call))
        return function

    return register


def command_group(name: str, panel: str, text: str) -> typer.Typer:
    """Commands of two words, such as ``farm store check``."""
    group = typer.Typer(name=name, help=text, rich_markup_mode="rich", no_args_is_help=False)
    app.add_typer(group, rich_help_panel=panel)
    return group


def _unless_second_word(call: Callable[..., None]) -> Callable[..., None]:
    """The command as it is given without a second word."""

    def first(context: typer.Context, **values: Any) -> None:
        if context.invoked_subcommand is None:
            call(**values)

    own = inspect.signature(call).parameters.values()
    context = inspect.Parameter(
        "context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context
    )
    first.__signature__ = inspect.Signature([context, *own])  # type: ignore[attr-defined]
    first.__annotations__ = {"context": typer.Context, **call.__annotations__}
    first.__doc__ = call.__doc__
    return first


def _shared(
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="Answer with one JSON document.", rich_help_panel=SHARED)
    ] = False,
    quiet: Annotated[
        bool,
        typer.Option("--quiet", "-q", help="The bare answer alone.", rich_help_panel=SHARED),
    ] = False,
    settings_file: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE",
            help="Settings, instead of the file in FARM_CONFIG.",
            show_default=False,
            rich_help_panel=SHARED,
        ),
    ] = None,
    debug: Annotated[
        bool,
        typer.Option("--debug", help="Show where an error comes from.", rich_help_panel=SHARED),
    ] = False,
) -> None:
    """The options of every command; only the signature is used."""


@contextmanager
def _errors(run: Run) -> Iterator[None]:
    """Turn what a command raises into one line and an exit code."""
    try:
        yield
    except (typer.Exit, typer.BadParameter):
        raise  # the parser shows them, with the usage
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - each has an exit code
        code = exit_code(error)
        if code is ExitCode.PIPE:
            # Python flushes stdout once more at its end and would complain again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        elif code is not ExitCode.INTERRUPTED:
            if run.debug:
                traceback.print_exception(error, file=run.output.stderr)
            run.output.error(_sentence(error, code), code)
        raise typer.Exit(code) from None


def _sentence(error: BaseException, code: ExitCode) -> str:
    text = " ".join(str(error).split()) or code.meaning
    if code is ExitCode.BUG:
        return f"{type(error).__name__}: {text}; this is a mistake in farm, --debug shows where"
    return text
