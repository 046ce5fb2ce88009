"""The folder of a sweep: what it is, what was expected and predicted, which cells are done, and the run table.

sweep.json       the sweep's run, what makes it this sweep, and which cells diverged
expected.json    the expected bill, written before the first cell and never again
prediction.json  of the largest budget, written before the first of its cells and never again
cells/NAME       each cell's model folder, with its run beside it (NAME.run)
tokens/          the corpus as tokens, made once
runs.csv         a row for each finished cell, as ``laws fit`` reads it; one that diverged has a reason for a loss
fit.json, plots/ what came of it
"""

from __future__ import annotations

import csv
import fcntl
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from twobills.errors import RequestError
from twobills.flows.run_folder import RunFolder
from twobills.plan.sweep import Cell
from twobills.plan.sweep_bill import cell_to_json
from twobills.specs.sweep import SweepSpec

_FORMAT = 1
Row = dict[str, Any]


class SweepFolder:
    """Files below the sweep's ``out``; a file that is there is whole."""

    def __init__(self, path: Path) -> None:
        self.path, self.runs, self.plots = path, path / "runs.csv", path / "plots"

    @contextmanager
    def opened(self) -> Iterator[SweepFolder]:
        """Locks the folder. Raises RequestError if another sweep has it, or it cannot be written."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise RequestError(f"--out {self.path}: cannot be written to ({error.strerror}); choose another") from None
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise RequestError(f"--out {self.path}: another sweep is running here; wait for it") from None
            yield self
        finally:
            os.close(lock)

    def begun(self, spec: SweepSpec) -> Mapping[str, Any] | None:
        """What was stored when this sweep began; None if none was.

        Raises RequestError, naming the first setting that differs, if another one was begun here.
        """
        stored = self.read("sweep")
        if stored is None:
            return None
        ours = spec.identity()
        for key in sorted(ours.keys() | stored["identity"].keys()):
            then, now = stored["identity"].get(key), ours.get(key)
            if then != now:
                option = spec.option(key)
                words = (option, "other data") if key == "data" else (f"{option} {now}", then)
                raise RequestError(
                    f"{words[0]}: the sweep in {self.path} was begun with {words[1]}; choose another --out"
                )
        return stored

    def begin(self, spec: SweepSpec, facts: Mapping[str, Any]) -> Mapping[str, Any]:
        """Says what is swept here."""
        document = {"format": _FORMAT, "identity": spec.identity(), **facts}
        self.write("sweep", document)
        return document

    def read(self, name: str) -> dict[str, Any] | None:
        """The JSON file of this name; None if it is not there yet."""
        path = self.path / f"{name}.json"
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise RequestError(f"{path}: cannot be read ({type(error).__name__}); choose another --out") from None
        if not isinstance(document, dict):
            raise RequestError(f"{path}: is not of a sweep; choose another --out")
        return document

    def write(self, name: str, document: Mapping[str, Any]) -> None:
        """Writes it whole or not at all."""
        part = self.path / f".{name}.json.part"
        with part.open("w", encoding="utf-8") as stream:
            json.dump(document, stream, indent=1)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(self.path / f"{name}.json")

    def cell(self, cell: Cell) -> RunFolder:
        """The run of a cell."""
        return RunFolder(self.path / "cells" / cell.name)

    def run_ids(self) -> list[str]:
        """Of all cells that were begun, finished or not."""
        runs = (json.loads(path.read_text(encoding="utf-8")) for path in self.path.glob("cells/*.run/run.json"))
        return [str(run["run_id"]) for run in runs]

    def diverge(self, cell: Cell, row: Row) -> None:
        """Keeps what is known of a cell that has no loss, so that nobody trains it again."""
        document = self.read("sweep")
        assert document is not None, "a sweep that trains was begun"
        self.write("sweep", {**document, "diverged": {**document.get("diverged", {}), cell.name: row}})

    def row(self, cell: Cell) -> Row | None:
        """A finished cell's row of the run table, also one that diverged; None if it is not finished."""
        result = self.cell(cell).result()
        if result is None:
            row: Row | None = ((self.read("sweep") or {}).get("diverged") or {}).get(cell.name)
            return row
        bills, quality = result["bills"]["training"], result["quality"]
        loss = quality["heldout_nats_per_token"]
        is_known = loss is not None and math.isfinite(loss)
        return cell_row(
            cell,
            loss=loss if is_known else None,
            bits_per_byte=quality["heldout_bits_per_byte"] if is_known else None,
            epochs=result["training"]["epochs"],
            train_s=result["training"]["wall_s"],
            measured=bills["measured"],
            predicted=bills["predicted"],
            run_id=result["run_id"],
            reason=None if is_known else "the held-out loss is no number",
        )

    def write_runs(self, rows: Sequence[Row]) -> None:
        """The run table: budgets ascending, then sizes."""
        part = self.path / ".runs.csv.part"
        with part.open("w", encoding="utf-8", newline="") as stream:
            table = csv.DictWriter(stream, list(rows[0]) if rows else ["n_params", "n_tokens", "compute_flops", "loss"])
            table.writeheader()
            table.writerows(sorted(rows, key=lambda row: (row["budget_flops"], row["n_params"])))
        part.replace(self.runs)


def cell_row(
    cell: Cell,
    *,
    measured: Mapping[str, Any] | None,
    predicted: Mapping[str, Any] | None,
    run_id: str,
    loss: float | None = None,
    bits_per_byte: float | None = None,
    epochs: float | None = None,
    train_s: float | None = None,
    reason: str | None = None,
) -> Row:
    """A row of the run table, from bills as plain JSON; ``reason`` says why there is no loss."""
    told = cell_to_json(cell)
    return {
        **{key: told[key] for key in ("n_params", "n_tokens", "compute_flops")},
        "loss": loss,
        "bits_per_byte": bits_per_byte,
        **told,
        "epochs": epochs,
        "train_s": train_s,
        "chip_s": measured["total"]["chip_s"] if measured else 0.0,
        "usd": measured["total_usd"] if measured else 0.0,
        "predicted_usd": predicted["total_usd"] if predicted else None,
        "executed_flops": measured["total"]["flops"] if measured else 0.0,
        "run_id": run_id,
        "reason": reason,
    }
