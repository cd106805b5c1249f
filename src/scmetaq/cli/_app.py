"""The commands, one per job. Libraries that take seconds to load wait for their command."""

import inspect
import os
import re
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from importlib.metadata import version as version_of
from typing import Annotated, Any, cast

import typer

from ._commands import Infer, Map
from ._job import Job
from ._judging import Compare, Evaluate
from ._terminal import BAD_INPUT, ERROR, STOPPED, exit_status, say

# typer has this class, but does not export it
_UsageError = cast("type[Exception]", typer.BadParameter.__base__)
_REPEATABLE = ("--covariate-key", "--labels-key")
_LAST = ("overwrite", "debug")

app = typer.Typer(
    name="scmetaq",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def run(arguments: Sequence[str] | None) -> None:
    """Run the command line, by default the words that it was called with, and leave."""
    os.environ.setdefault("MPLBACKEND", "agg")  # the report needs no screen
    words = sys.argv[1:] if arguments is None else list(arguments)
    # schedulers end jobs by SIGTERM: clean up as when the user does
    is_main = threading.current_thread() is threading.main_thread()  # others have no signals
    before = signal.getsignal(signal.SIGTERM) if is_main else None
    if before is not None:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        repeated = _repeat_options(words)
        status = app(repeated, prog_name="scmetaq", obj=words, standalone_mode=False)
    except _UsageError as error:
        message = getattr(error, "format_message", error.__str__)().rstrip(".")
        context = getattr(error, "ctx", None) if message.startswith("Missing argument") else None
        usage = "see scmetaq --help"
        if context:  # names of arguments without typer's braces
            usage = re.sub(r"\.{3}}|[{}]", "", context.get_usage().replace("Usage", "usage"))
        say(f"{message}; {usage}.", ERROR)
        status = BAD_INPUT
    except (typer.Abort, KeyboardInterrupt):
        status = STOPPED
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)
    if status == STOPPED:
        say("Stopped before all results were written.", ERROR)
    sys.exit(status or 0)


@app.callback(invoke_without_command=True)
def scmetaq(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    """Metacells by quantization: groups of cells in the same state, learnt from raw counts.

    To see it work: [bold]scmetaq infer demo[/]
    """
    if version:
        typer.echo(f"scmetaq {version_of('scmetaq')}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        context.get_help()


def _command(job: type[Job]) -> Callable[..., None]:
    """Command whose parameters are the fields of a job."""

    def command(context: typer.Context, **options: Any) -> None:
        with exit_status(job.remedies, debug=options["debug"]):
            job(command=shlex.join(["scmetaq", *(context.obj or [])]), **options).run()

    fields = [of for of in inspect.signature(job).parameters.values() if of.name != "command"]
    fields.sort(key=lambda of: of.name in _LAST)
    context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    command.__signature__ = inspect.Signature([context, *fields])  # type: ignore[attr-defined]
    command.__doc__ = job.__doc__
    return command


for _job in (Infer, Map, Evaluate, Compare):
    app.command(_job.__name__.lower())(_command(_job))


def _repeat_options(words: list[str]) -> list[str]:
    """``--labels-key A B`` as ``--labels-key A --labels-key B``, where the input is named first."""
    if words[:1] != ["infer"] or words[1:2] == [] or words[1].startswith("-"):
        return words
    found, option, n_values = list[str](), "", 0
    for word in words:
        if word.startswith("-"):
            option, equals, _ = word.partition("=")
            n_values = len(equals)
        else:
            n_values += 1
            if option in _REPEATABLE and n_values > 1:
                found.append(option)
        found.append(word)
    return found
