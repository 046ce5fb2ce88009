"""``twobills train``: the first job alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twobills.cli.options import AsJson, LedgerPath
from twobills.cli.runtime import n_processes, restart_with_settings
from twobills.errors import RequestError

if TYPE_CHECKING:
    from twobills.flows.together import Processes


def train(
    config: Annotated[Path, typer.Argument(help="A TOML file; examples/train.toml shows every key.")],
    ledger: LedgerPath,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Overrides a key of the file.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run that was begun for this model; begin it if none was.")
    ] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Begin again, whatever was begun.")] = False,
    max_usd: Annotated[
        float | None, typer.Option(help="Stop, with a checkpoint and status 3, before spending more dollars.")
    ] = None,
    max_seconds: Annotated[float | None, typer.Option(help="Likewise for seconds, all resumes together.")] = None,
    max_flops: Annotated[float | None, typer.Option(help="Likewise for executed FLOPs.")] = None,
    as_json: AsJson = False,
) -> None:
    """Train and freeze a model as a TOML file says, with the bill predicted first."""
    restart_with_settings()
    from twobills.specs.job import read_document

    asked = read_document(config, overrides or ())
    if "finetune" in asked:
        if n_processes() > 1:
            raise RequestError("[finetune]: is done by one process; start it without torchrun")
        from twobills.cli.finetune import finetune

        finetune(
            asked,
            config,
            ledger,
            as_json=as_json,
            resume=resume,
            max_usd=max_usd,
            max_seconds=max_seconds,
            max_flops=max_flops,
        )
        return
    from twobills.cli.progress import ProgressListener
    from twobills.cli.run_screen import RunListener, show_training
    from twobills.cli.screen import print_json
    from twobills.flows.run_folder import RunFolder
    from twobills.ledger.store import Ledger
    from twobills.specs.job import read_job

    job = read_job(config, overrides or ()).limited(max_usd=max_usd, max_seconds=max_seconds, max_flops=max_flops)
    if resume and restart:
        raise RequestError("--resume and --restart: give one of them")

    def lead(processes: Processes | None = None) -> dict[str, Any]:
        with RunFolder(job.out).opened() as folder:
            from twobills.flows.train import Begin, run_train

            begin = Begin.RESUME if resume else Begin.RESTART if restart else Begin.NEW
            with ProgressListener() if as_json else RunListener() as listener:
                return run_train(job, folder, Ledger(ledger), listener, begin, processes)

    if n_processes() == 1:
        document = lead()
    else:
        from twobills.flows.together import together

        found = together(lead)
        if found is None:  # another process led, and has shown what there is to show
            return
        document = found
    if as_json:
        print_json(document)
    else:
        show_training(document)
