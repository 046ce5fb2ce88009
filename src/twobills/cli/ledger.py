"""``twobills ledger``: what was planned and what was spent."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from twobills.cli.options import AsJson, LedgerPath

ledger_app = typer.Typer(
    no_args_is_help=True, help="What was planned and what was spent: list, show, reconcile, calibrate."
)
RunId = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, its beginning or end, or `last`.")]


@ledger_app.command("list")
def list_runs(ledger: LedgerPath, as_json: AsJson = False) -> None:
    """All runs, the newest first."""
    from twobills.cli.screen import print_json, print_table
    from twobills.ledger.store import Ledger
    from twobills.report.ledger_tables import run_rows, runs_table

    rows = run_rows(Ledger(ledger))
    if as_json:
        print_json({"ledger": str(ledger), "runs": rows})
    else:
        print_table(runs_table(rows))


@ledger_app.command()
def show(run_id: RunId, ledger: LedgerPath, as_json: AsJson = False) -> None:
    """One run: how it began and ended, its plans and its measured bills (all records with --json)."""
    from twobills.cli.screen import print_json, print_table, say
    from twobills.ledger.store import Ledger
    from twobills.report.ledger_tables import run_document
    from twobills.report.sentences import bill_sentence
    from twobills.report.tables import bill_table

    document: dict[str, Any] = run_document(Ledger(ledger), run_id)
    if as_json:
        print_json(document)
        return
    say(f"Run {document['run_id']}: `twobills {document['command']}`, {document['outcome']}, began {document['at']}")
    for job, bill in document["measured"].items():
        say(bill_sentence(bill))
        print_table(bill_table(bill, document["planned"].get(job), explain=False))


@ledger_app.command()
def reconcile(run_id: RunId, ledger: LedgerPath, as_json: AsJson = False) -> None:
    """Plan against meter, every dollar of the difference with a name."""
    from twobills.cli.screen import print_json, print_table, say
    from twobills.ledger.store import Ledger
    from twobills.report.ledger_tables import gaps_document
    from twobills.report.sentences import gap_sentence
    from twobills.report.tables import gap_table

    document: dict[str, Any] = gaps_document(Ledger(ledger), run_id)
    if as_json:
        print_json(document)
        return
    if not document["gaps"]:
        say(f"Run {document['run_id']} has no plan and meter of the same job to hold against each other.")
    for job, gaps in document["gaps"].items():
        say(gap_sentence(job, gaps))
        print_table(gap_table(job, gaps, explain=False))


@ledger_app.command()
def calibrate(
    ledger: LedgerPath,
    forget: Annotated[bool, typer.Option("--forget", help="Go back to forecasts without the runs.")] = False,
    as_json: AsJson = False,
) -> None:
    """Let a machine's own metered runs correct the forecasts for it, shown before and after."""
    from twobills.cli.screen import print_json, print_table, say
    from twobills.flows.calibrate_machine import calibrate_machines, forget_calibrations
    from twobills.ledger.store import Ledger
    from twobills.report.ledger_tables import (
        calibration_sentence,
        calibration_table,
        forgotten_sentence,
        too_few_sentence,
    )

    document: dict[str, Any] = forget_calibrations(Ledger(ledger)) if forget else calibrate_machines(Ledger(ledger))
    if as_json:
        print_json(document)
    elif forget:
        say(forgotten_sentence(document))
    else:
        for machine in document["machines"]:
            for job in machine["jobs"]:
                say(calibration_sentence(machine, job))
                print_table(calibration_table(machine, job))
            if few := too_few_sentence(machine):
                say(few)
        say("From now on plans made on that machine use this; `twobills ledger calibrate --forget` undoes it.")
