"""``twobills train`` of a file with ``[finetune]``: a base is taught to answer."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.markup import escape

from twobills.cli.progress import ProgressListener
from twobills.cli.run_screen import RunListener, show_machine
from twobills.cli.screen import out, print_json, print_table, say
from twobills.errors import RequestError
from twobills.flows.finetune import run_finetune
from twobills.ledger.store import Ledger
from twobills.report import finetune_sentences, sentences, tables
from twobills.specs.finetune import finetune_from_document


class _FinetuneListener(RunListener):
    """Progress and the plan, without words on sizes: the base's is what it is."""

    def found(self, part: str, document: Mapping[str, Any]) -> None:
        """Shows the parts that a user should see before the end."""
        if part == "machine":
            show_machine(document)
        elif part == "plan":
            say(sentences.plan_sentence(document))
            print_table(tables.plan_table(document))
        else:
            super().found(part, document)


def finetune(
    document: dict[str, Any],
    config: Path,
    ledger: Path,
    *,
    as_json: bool,
    resume: bool = False,
    **limits: float | None,
) -> None:
    """Teaches as the document of the file ``config`` says; ``limits`` that are given replace the file's.

    Raises RequestError if it should go on with a run, or in several processes.
    """
    if resume:
        raise RequestError("--resume: fine-tuning is not gone on with; without it, it begins again")
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise RequestError("WORLD_SIZE: fine-tuning runs in one process; start it without torchrun")
    given = {name: value for name, value in limits.items() if value is not None}
    if given and isinstance(table := document.get("limits", {}), dict):
        document = {**document, "limits": {**table, **given}}
    job = finetune_from_document(document, config)
    with ProgressListener() if as_json else _FinetuneListener() as listener:
        result = run_finetune(job, Ledger(ledger), listener, metered_since_start=True)
    if as_json:
        print_json(result)
        return
    say(finetune_sentences.finetune_sentence(result))
    print_table(finetune_sentences.finetune_table(result))
    say(finetune_sentences.base_sentence(result))
    bill = result["bills"]["training"]
    say(sentences.bill_sentence(bill["measured"]))
    print_table(tables.bill_table(bill["measured"], bill["predicted"], explain=False))
    say(sentences.gap_sentence("training", bill["gaps"], bill["predicted_interval"]))
    out.print(f"Model: [bold]{escape(result['model']['folder'])}[/bold] (weights {result['model']['digest']})")
    out.print(f"Run [bold]{result['run_id']}[/bold]: `twobills ledger show {result['run_id']}`")
