"""``twobills train``: the first job alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twobills.cli.options import AsJson, LedgerPath
from twobills.cli.runtime import restart_with_settings


def train(
    config: Annotated[Path, typer.Argument(help="A TOML file; examples/train.toml shows every key.")],
    ledger: LedgerPath,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Overrides a key of the file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train and freeze a model as a TOML file says, with the bill predicted first."""
    restart_with_settings()
    from twobills.specs.job import read_document

    asked = read_document(config, overrides or ())
    if "finetune" in asked:
        from twobills.cli.finetune import finetune

        finetune(asked, config, ledger, as_json=as_json)
        return
    from twobills.cli.progress import ProgressListener
    from twobills.cli.run_screen import RunListener, show_training
    from twobills.cli.screen import print_json
    from twobills.flows.train import run_train
    from twobills.ledger.store import Ledger
    from twobills.specs.job import read_job

    job = read_job(config, overrides or ())
    with ProgressListener() if as_json else RunListener() as listener:
        document = run_train(job, Ledger(ledger), listener)
    if as_json:
        print_json(document)
    else:
        show_training(document)
