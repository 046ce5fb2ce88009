"""What ``run``, ``train`` and ``machine`` show: each part as soon as it exists, a sentence above each table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.markup import escape

from twobills.cli.progress import ProgressListener
from twobills.cli.screen import out, print_table, say
from twobills.report import sentences, tables

Document = Mapping[str, Any]


class RunListener(ProgressListener):
    """Progress, and what is found on the way: the machine and the plan before anything is trained."""

    def found(self, part: str, document: Document) -> None:
        """Shows the parts that a user should see before the end."""
        if part == "run":
            out.print(f"Run [bold]{document['run_id']}[/bold], kept in {escape(document['ledger'])}")
        elif part == "machine":
            show_machine(document)
        elif part == "plan":
            show_plan(document)


def show_machine(machine: Document) -> None:
    """The machine, measured."""
    say(sentences.machine_sentence(machine))
    print_table(tables.machine_table(machine))


def show_plan(plan: Document) -> None:
    """The plan, before the first step."""
    say(plan.get("note") or sentences.sizes_sentence(plan["sizes"], plan["law"]))
    if plan["sizes"]:
        print_table(tables.sizes_table(plan["sizes"]))
    say(sentences.plan_sentence(plan))
    print_table(tables.plan_table(plan))


def show_training(document: Document) -> None:
    """What came of training."""
    _show_quality(document)
    _show_bill("training", document["bills"]["training"])
    _show_folder(document["model"])
    out.print(f"Run [bold]{document['run_id']}[/bold]: `twobills ledger show {document['run_id']}`")


def show_run(document: Document) -> None:
    """What came of the main job."""
    _show_quality(document)
    say(sentences.requests_sentence(document["requests"], document["usd_per_request"]))
    print_table(tables.requests_table(document["requests"]))
    for job, bill in document["bills"].items():
        _show_bill(job, bill)
    say(sentences.life_sentence(document["life"]))
    print_table(tables.life_table(document["life"]))
    say(sentences.provenance_sentence(document["provenance"]))
    _show_folder(document["model"])
    out.print(f"Report: [bold]{escape(document['report'])}[/bold]")
    out.print(f"Run [bold]{document['run_id']}[/bold]: `twobills ledger show {document['run_id']}`")


def _show_quality(document: Document) -> None:
    say(sentences.quality_sentence(document["quality"]))
    print_table(tables.quality_table(document["quality"]))


def _show_bill(job: str, bill: Document) -> None:
    say(sentences.bill_sentence(bill["measured"]))
    say(sentences.bill_lines_sentence(bill["measured"]))
    print_table(tables.bill_table(bill["measured"], bill["predicted"], explain=False))
    say(sentences.gap_sentence(job, bill["gaps"], bill["predicted_interval"]))
    print_table(tables.gap_table(job, bill["gaps"], explain=False))


def _show_folder(model: Document) -> None:
    out.print(f"Model: [bold]{escape(model['folder'])}[/bold] (weights {model['digest']})")
