"""The commands and their options. Libraries that take seconds to load wait for their command."""

import os
import shlex
import signal
import sys
import threading
from collections.abc import Sequence
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Annotated, cast

import typer

from . import _evaluate, _infer, _map
from ._assignments import check_assignments
from ._errors import BAD_INPUT, STOPPED, BadInput, exit_status, say_error
from ._input import DEMO_LABELS, DEMO_OUT, Source, find_source
from ._output import check_output

# typer has this class, but does not export it
_UsageError = cast("type[Exception]", typer.BadParameter.__base__)

app = typer.Typer(
    name="scmetaq",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Input = Annotated[
    str,
    typer.Argument(
        metavar="INPUT",
        help="Cells with raw counts: an .h5ad file, an .h5mu file with several modalities, a .zarr "
        "store, or the word [bold]demo[/].",
        show_default=False,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="Directory to write to.", show_default=False),
]
Layer = Annotated[
    str | None,
    typer.Option(
        metavar="LAYER",
        help="Layer with the raw counts, X by default; of an .h5mu file the layer of every "
        "modality that has it, X of the others.",
        show_default=False,
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier result.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks and all messages.")]
_REPEATABLE = ("--covariate-key", "--labels-key")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit status.

    Parameters
    ----------
    arguments
        Words after the name of the program; those it was called with by default.
    """
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
        say_error(_usage(error))
        status = BAD_INPUT
    except (typer.Abort, KeyboardInterrupt):
        status = STOPPED
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)
    if status == STOPPED:
        say_error("Stopped before all results were written.")
    sys.exit(status or 0)


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


@app.command("infer")
def infer_command(
    context: typer.Context,
    input: Input,
    out: Out = None,
    n_metacells: Annotated[
        int | None,
        typer.Option(
            metavar="K",
            min=2,
            help="Number of metacells; one per 50 cells by default.",
            show_default=False,
        ),
    ] = None,
    layer: Layer = None,
    modality: Annotated[
        _infer.Modality | None,
        typer.Option(
            help="Kind of counts of an .h5ad file, rna by default; those of an .h5mu file are "
            "known by the names of its modalities: rna, adt or prot, atac.",
            show_default=False,
        ),
    ] = None,
    batch_key: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Column of obs with the batch.", show_default=False),
    ] = None,
    covariate_key: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="Column of obs with a covariate; several after INPUT, or repeated.",
            show_default=False,
        ),
    ] = None,
    labels_key: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="Column of obs with labels to judge by, also of one modality (rna:COLUMN); "
            "several after INPUT, or repeated. Never used in training.",
            show_default=False,
        ),
    ] = None,
    max_epochs: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Epochs; by default what the data need.", show_default=False
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(metavar="S", min=0, help="The same seed gives the same result.")
    ] = 0,
    accelerator: Annotated[_infer.Accelerator, typer.Option(help="Device to train on.")] = "auto",
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Infer metacells and write them, the assignment of each cell, the model and a report."""
    with exit_status(debug=debug):
        source = find_source(input)
        out = out or (Path(DEMO_OUT) if source.is_demo else _required(out))
        check_output(out, overwrite=overwrite, results=_infer.RESULTS, inputs=_files(source))
        options = _infer.InferOptions(
            source=source,
            out=out,
            n_metacells=n_metacells,
            layer=layer,
            modality=modality,
            batch_key=batch_key,
            covariate_keys=covariate_key or [],
            labels_keys=labels_key or ([DEMO_LABELS] if source.is_demo else []),
            max_epochs=max_epochs,
            seed=seed,
            accelerator=accelerator,
            overwrite=overwrite,
            command=_command(context),
            debug=debug,
        )
        _infer.check_options(options)
        _infer.infer(options)


@app.command("evaluate")
def evaluate_command(
    context: typer.Context,
    input: Input,
    assignments: Annotated[
        Path,
        typer.Argument(
            metavar="ASSIGNMENTS",
            help="Table of any method, .csv or .tsv, with the columns barcode and metacell.",
            show_default=False,
        ),
    ],
    out: Out = None,
    labels_key: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Column of obs with labels to judge by, also of one modality (rna:COLUMN).",
            show_default=False,
        ),
    ] = None,
    batch_key: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Column of obs with the batch, to judge how metacells mix batches; also of one "
            "modality (rna:COLUMN).",
            show_default=False,
        ),
    ] = None,
    layer: Layer = None,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Judge the metacells of any method and write the numbers and a report."""
    with exit_status(debug=debug):
        source = find_source(input)
        check_assignments(assignments)
        out = _required(out)
        inputs = [*_files(source), assignments]
        check_output(out, overwrite=overwrite, results=_evaluate.RESULTS, inputs=inputs)
        _evaluate.evaluate(
            _evaluate.EvaluateOptions(
                source=source,
                assignments=assignments,
                out=out,
                layer=layer,
                labels_key=labels_key or (DEMO_LABELS if source.is_demo else None),
                batch_key=batch_key,
                overwrite=overwrite,
                command=_command(context),
                debug=debug,
            )
        )


@app.command("map")
def map_command(
    context: typer.Context,
    query: Annotated[
        str,
        typer.Argument(
            metavar="QUERY",
            help="New cells with raw counts: an .h5ad file, an .h5mu file or a .zarr store.",
            show_default=False,
        ),
    ],
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder of the trained model, e.g. results/model of [bold]scmetaq infer[/].",
            show_default=False,
        ),
    ] = None,
    out: Out = None,
    new_metacells: Annotated[
        bool,
        typer.Option("--new-metacells", help="Add metacells for states that the model lacks."),
    ] = False,
    accelerator: Annotated[_infer.Accelerator, typer.Option(help="Device to use.")] = "auto",
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Map new cells onto a trained model: metacells, and labels with their uncertainty."""
    with exit_status(debug=debug):
        source = find_source(query)
        if model is None:
            raise BadInput("Missing option --model DIR: which model should cells be mapped onto?")
        _map.check_model(model)
        out = _required(out)
        inputs = [*_files(source), model]
        check_output(out, overwrite=overwrite, results=_map.RESULTS, inputs=inputs)
        _map.map_cells(
            _map.MapOptions(
                source=source,
                model=model,
                out=out,
                accelerator=accelerator,
                new_metacells=new_metacells,
                overwrite=overwrite,
                command=_command(context),
                debug=debug,
            )
        )


def _required(out: Path | None) -> Path:
    if out is None:
        raise BadInput("Missing option --out DIR: where should the results go?")
    return out


def _files(source: Source) -> list[Path]:
    return [] if source.path is None else [source.path]


def _command(context: typer.Context) -> str:
    """Return the command as it was typed."""
    return shlex.join(["scmetaq", *(context.obj or [])])


def _usage(error: Exception) -> str:
    message = getattr(error, "format_message", error.__str__)()
    return f"{message.replace('Value error, ', '').rstrip('.')}; see scmetaq --help."
