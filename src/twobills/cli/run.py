"""``twobills run``: the main job."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twobills.cli.options import AsJson, ChipHourPrice, LedgerPath
from twobills.cli.runtime import restart_with_settings
from twobills.specs.data import Modality


def run(
    ledger: LedgerPath,
    minutes: Annotated[float, typer.Option(help="Planned minutes of training.")] = 2.0,
    data: Annotated[
        Path | None,
        typer.Option(help="A file or folder to learn from. Default: the Python standard library's source."),
    ] = None,
    modality: Annotated[
        Modality, typer.Option(help="What the data is: text, images (PNG files), or any bytes, byte by byte.")
    ] = Modality.TEXT,
    out: Annotated[Path, typer.Option(help="Where the report and the model go.")] = Path("twobills-out"),
    usd_per_chip_hour: ChipHourPrice = None,
    seed: Annotated[int, typer.Option(help="Same seed, same data order and same initial weights.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Train, freeze and serve a model on this machine, and show both bills beside their plans."""
    restart_with_settings()
    from twobills.cli.progress import ProgressListener
    from twobills.cli.run_screen import RunListener, show_run
    from twobills.cli.screen import print_json
    from twobills.flows.main_job import MainJob, run_main_job
    from twobills.ledger.store import Ledger

    asked = MainJob(
        out=out, data=data, modality=modality, minutes=minutes, usd_per_chip_hour=usd_per_chip_hour, seed=seed
    )
    with ProgressListener() if as_json else RunListener() as listener:
        document = run_main_job(asked, Ledger(ledger), listener)
    if as_json:
        print_json(document)
    else:
        show_run(document)
