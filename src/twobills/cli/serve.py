"""``twobills serve``: the second job alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twobills.cli.options import AsJson, ChipHourPrice, LedgerPath
from twobills.cli.runtime import restart_with_settings


def serve(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A model folder in Hugging Face's form.")],
    ledger: LedgerPath,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one.")] = 8000,
    served_model_name: Annotated[str | None, typer.Option(help="Default: the folder's name.")] = None,
    dtype: Annotated[str | None, typer.Option(help="bf16 or fp32. Default: as the weights are stored.")] = None,
    usd_per_chip_hour: ChipHourPrice = None,
    as_json: AsJson = False,
    run_id: Annotated[str | None, typer.Option(hidden=True)] = None,
    until_stdin_closes: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Serve a frozen model over OpenAI's HTTP API, and meter every request."""
    restart_with_settings()
    from twobills.cli.serve_screen import ServeScreen
    from twobills.flows.serve import ServeRequest, run_serve
    from twobills.ledger.store import Ledger
    from twobills.specs.dtype import DType

    request = ServeRequest(
        folder=folder,
        host=host,
        port=port,
        model_name=served_model_name,
        dtype=DType.parse(dtype) if dtype else None,
        usd_per_chip_hour=usd_per_chip_hour,
        run_id=run_id,
        until_stdin_closes=until_stdin_closes,
    )
    screen = ServeScreen(as_json)
    run_serve(request, Ledger(ledger), screen.ready, screen.ended)
