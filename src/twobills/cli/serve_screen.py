"""What ``twobills serve`` prints: where it listens, and at the end what it used."""

from __future__ import annotations

import json
from typing import Any

from twobills.cli.screen import err, out, print_table
from twobills.report.tables import bill_table
from twobills.units import show_count


class ServeScreen:
    """Lines for people, or one JSON document per line: first ``ready``, then the result."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json

    def ready(self, document: dict[str, Any]) -> None:
        """The server listens."""
        if self._as_json:
            print(json.dumps(document), flush=True)
            return
        n_params = show_count(document["n_params"])
        out.print(f"Serving {document['model']} ({n_params} parameters) at [bold]{document['url']}/v1[/bold]")
        checked = (
            "as twobills.json names them" if document["digest_checked"] else "with no twobills.json to check against"
        )
        out.print(f"Weights {document['digest']}, {checked}. Metrics at /metrics, usage at /twobills/usage.")
        err.print("Ctrl-C stops it and prints the bill.")

    def ended(self, document: dict[str, Any]) -> None:
        """The server has stopped."""
        if self._as_json:
            print(json.dumps(document), flush=True)
            return
        out.print(f"The weights are still {document['digest_after_serving']}.")
        print_table(bill_table(document["bill"], explain=False))
