"""``twobills validate``: forecasts held against what others measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twobills.cli.options import AsJson

validate_app = typer.Typer(
    no_args_is_help=True, help="Hold the forecasts against measured rows: training or inference."
)


@validate_app.command()
def training(
    files: Annotated[list[Path], typer.Argument(help="CSV tables of measured throughput, or of whole runs.")],
    report: Annotated[
        Path | None, typer.Option(help="Also write a page of all tables, each source left out in turn (needs SciPy).")
    ] = None,
    calibrate: Annotated[
        Path | None, typer.Option(help="Also fit the calibration anew and write it to this file (needs SciPy).")
    ] = None,
    serving: Annotated[
        list[Path] | None, typer.Option(help="With --report: tables of serving measurements, for the same page.")
    ] = None,
    peer: Annotated[
        list[Path] | None,
        typer.Option(help="With --serving: another tool's forecasts of these rows (benchmarks/serving_accuracy.py)."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Forecast each row from its inputs only, and say how far that is from what was measured."""
    from twobills.cli.screen import err, print_json, print_table, say
    from twobills.errors import RequestError
    from twobills.flows.validation.document import validate_file, validate_serving_file, validation_document
    from twobills.report import validation_tables as tables
    from twobills.specs.calibration import published_calibration
    from twobills.specs.serving_calibration import published_serving_calibration

    if as_json and len(files) > 1:
        raise RequestError(f"--json: prints one document, but {len(files)} files are given; validate one at a time")
    validated = [validate_file(path, published_calibration()) for path in files]
    for each in validated:
        document = validation_document(each)
        if as_json:
            print_json(document)
            continue
        say(f"{each.path.name}: {tables.validation_sentence(document)}")
        if "within" in document:
            print_table(tables.within_table(document))
        else:
            print_table(tables.sources_table(document))
        print_table(tables.worst_table(document))
        for line in tables.skipped_lines(document):
            say(line)
    if serving and not report:
        raise RequestError("--serving: only for the page of --report; `validate inference` shows serving tables")
    if peer and not serving:
        raise RequestError("--peer: beside the rows of --serving FILE, which is not given")
    if report or calibrate:
        from twobills.flows.validation.calibrated import write_calibration, write_page
        from twobills.flows.validation.peer import read_peer

        if calibrate:
            write_calibration(validated, published_calibration(), calibrate)
            err.print(f"wrote {calibrate}")
        if report:
            peers = [read_peer(path) for path in peer or ()]
            served = [validate_serving_file(path, published_serving_calibration()) for path in serving or ()]
            write_page(validated, published_calibration(), report, served=served, peers=peers)
            err.print(f"wrote {report}")


@validate_app.command()
def inference(
    files: Annotated[list[Path], typer.Argument(help="CSV tables of measured serving throughput and latency.")],
    calibrate: Annotated[
        Path | None,
        typer.Option(help="Also fit the calibration anew and write it to this file (needs SciPy; minutes)."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Forecast each row from its inputs only, and say how far that is from what was measured."""
    from twobills.cli.screen import err, print_json, print_table, say
    from twobills.errors import RequestError
    from twobills.flows.validation.document import validate_serving_file, validation_document
    from twobills.report import validation_tables as tables
    from twobills.specs.serving_calibration import published_serving_calibration

    if as_json and len(files) > 1:
        raise RequestError(f"--json: prints one document, but {len(files)} files are given; validate one at a time")
    validated = [validate_serving_file(path, published_serving_calibration()) for path in files]
    for each in validated:
        document = validation_document(each)
        if as_json:
            print_json(document)
            continue
        say(f"{each.path.name}: {tables.validation_sentence(document)}")
        print_table(tables.sources_table(document))
        print_table(tables.worst_table(document))
        for line in tables.skipped_lines(document):
            say(line)
    if calibrate:
        from twobills.flows.validation.calibrated import write_serving_calibration

        write_serving_calibration(validated, published_serving_calibration(), calibrate)
        err.print(f"wrote {calibrate}")
