"""``twobills laws sweep``: a real IsoFLOP sweep with our own training job, on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from twobills.cli.options import AsJson, ChipHourPrice, LedgerPath
from twobills.cli.runtime import n_processes, restart_with_settings


def sweep_laws(
    ledger: LedgerPath,
    out: Annotated[Path, typer.Option(help="Folder of the sweep; the same folder again goes on with it.")],
    data: Annotated[
        Path | None, typer.Option(help="A file or folder to learn from; none: the standard library's source.")
    ] = None,
    budgets: Annotated[str, typer.Option(help="Training FLOPs of each curve, ascending.")] = "2e12,5e12,1.4e13,4e13",
    sizes: Annotated[int, typer.Option(help="Sizes at each budget, before a curve without a minimum gets more.")] = 5,
    vocab_size: Annotated[int, typer.Option(help="Of the one tokenizer of all cells.")] = 512,
    seq_len: Annotated[int, typer.Option(help="Tokens of a window.")] = 128,
    seed: Annotated[int, typer.Option(help="Of all cells.")] = 0,
    dtype: Annotated[str | None, typer.Option(help="bf16 or fp32; none: the faster one here.")] = None,
    workers: Annotated[int, typer.Option(help="Cells at a time; 0: one for each core, or GPU.")] = 0,
    bootstraps: Annotated[int, typer.Option(help="Of the fit at the end.")] = 4000,
    max_cells: Annotated[int | None, typer.Option(help="Stop, with status 3, before more cells.")] = None,
    max_usd: Annotated[float | None, typer.Option(help="Likewise for dollars of all cells.")] = None,
    max_seconds: Annotated[float | None, typer.Option(help="Likewise for the cells' seconds, added up.")] = None,
    max_flops: Annotated[float | None, typer.Option(help="Likewise for executed FLOPs.")] = None,
    usd_per_chip_hour: ChipHourPrice = None,
    plan_only: Annotated[bool, typer.Option("--plan-only", help="Show the expected bill and run nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Plan, run and fit an IsoFLOP sweep: budgets x sizes, the largest predicted first (needs PyTorch, SciPy)."""
    restart_with_settings()
    from twobills.cli.screen import print_json
    from twobills.errors import RequestError
    from twobills.flows.asked import quantity
    from twobills.flows.laws_fit import FitRequest
    from twobills.flows.sweep import run_sweep
    from twobills.specs.data import DataSpec
    from twobills.specs.limits import Limits
    from twobills.specs.sweep import SweepSpec

    if n_processes() > 1:
        raise RequestError(
            "laws sweep: starts its own processes, a cell for each core or GPU; start it without torchrun"
        )
    spec = SweepSpec(
        out=out.resolve(),
        data=DataSpec.of(data.resolve() if data else None),
        budgets_flops=tuple(quantity("--budgets", word.strip()) for word in budgets.split(",")),
        n_sizes=sizes,
        vocab_size=vocab_size,
        seq_len=seq_len,
        seed=seed,
        dtype=dtype,
        workers=workers,
        max_cells=max_cells,
        limits=Limits(max_usd=max_usd, max_seconds=max_seconds, max_flops=max_flops),
        usd_per_chip_hour=usd_per_chip_hour,
    )
    with _listener(as_json) as listener:
        document = run_sweep(spec, ledger, listener, fit=FitRequest(n_bootstraps=bootstraps), plan_only=plan_only)
    if as_json:
        print_json(document)
    elif not plan_only:
        _show(document)


def _listener(as_json: bool) -> Any:
    from twobills.cli.progress import ProgressListener
    from twobills.cli.screen import err, print_table, say
    from twobills.report import sweep_tables as tables

    class SweepListener(ProgressListener):
        """Shows the expected bill, each cell as it ends, and the prediction before the largest budget."""

        def found(self, part: str, document: Mapping[str, Any]) -> None:
            if part == "cell":
                err.print(f"  {tables.cell_line(document)}")
            elif part == "expected" and not as_json:
                say(tables.expected_sentence(document))
                print_table(tables.expected_table(document))
            elif part == "prediction" and not as_json:
                say(tables.prediction_sentence(document))

    return SweepListener()


def _show(document: Mapping[str, Any]) -> None:
    from twobills.cli.screen import out, print_table, say
    from twobills.report import laws_tables
    from twobills.report import sweep_tables as tables

    print_table(tables.cells_table(document))
    print_table(tables.curves_table(document))
    if table := tables.prediction_table(document):
        print_table(table)
    fitted = document["fit"]
    if fitted["parameters"] is None:
        say(f"No law: {fitted['reason']}")
    else:
        say(laws_tables.fit_sentence(fitted))
        print_table(laws_tables.parameters_table(fitted))
        print_table(laws_tables.approaches_table(fitted))
    out.print(f"Run table: {document['runs']}; `twobills laws fit {document['runs']}` fits it again")
