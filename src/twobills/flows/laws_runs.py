"""The runs of ``laws fit``: a CSV file in whatever columns it has, or what the ledger's training runs reached.

A row without a loss whose ``reason`` says why, as ``laws sweep`` writes where training diverged, is left out.
Columns are known by the names that papers and tools use; others are named with ``--columns``. Of the ledger only
finished runs on one data set with one vocabulary are comparable: their losses are per token of that tokenizer.
"""

from __future__ import annotations

import csv
import math
import shlex
from collections.abc import Mapping, Sequence
from itertools import compress
from pathlib import Path

from twobills.errors import DataError, RequestError
from twobills.laws.optimum import FLOPS_PER_PARAM_TOKEN
from twobills.laws.runs import Runs, read_runs
from twobills.ledger.record import Outcome, RecordKind
from twobills.ledger.store import Ledger
from twobills.units import parse_count

LEDGER = "ledger"
"""In place of a file: the runs of the ledger."""
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "n_params": ("n_params", "params", "parameters", "model size", "model_size", "n"),
    "n_tokens": ("n_tokens", "tokens", "training tokens", "train_tokens", "d"),
    "compute_flops": ("compute_flops", "flops", "flop", "training flop", "training flops", "compute", "c"),
    "loss": ("loss", "final loss", "final_loss", "val_loss", "eval_loss", "heldout_nats_per_token"),
}
"""Names by which a column is known, whatever their case."""
REASON = "reason"
"""The column that says why a row has no loss."""
_SHORT = {"params": "n_params", "tokens": "n_tokens", "flops": "compute_flops", "loss": "loss"}
"""How ``--columns`` names the quantities."""


def csv_runs(path: Path, columns: str | None = None) -> Runs:
    """The runs of a CSV file; ``columns`` like ``params=Model Size,flops=C,loss=Final loss``.

    Raises DataError for a file or a value that will not do, RequestError for columns that are not there.
    """
    header, rows, lines = _table(path)
    named = _named(columns, header, path)
    found = {**_recognised(header), **named}
    if "loss" not in found or len(found) < 3:
        missing = "loss" if "loss" not in found else "two of parameters, tokens and FLOPs"
        raise RequestError(
            f"{path}: no column for {missing} among {', '.join(header)}; "
            "name them, like --columns params=SIZE,tokens=TOKENS,loss=LOSS"
        )
    has_loss = [bool(row.get(found["loss"]) or not row.get(REASON)) for row in rows]
    rows, lines = list(compress(rows, has_loss)), list(compress(lines, has_loss))
    values = {
        quantity: [_number(row[column], path, line, column) for row, line in zip(rows, lines, strict=True)]
        for quantity, column in found.items()
    }
    return read_runs(values, lines, str(path))


def ledger_runs(ledger: Ledger, data: str | None = None, vocab_size: int | None = None) -> Runs:
    """The finished training runs on one data set with one vocabulary.

    Raises RequestError if there are several, naming them, and ``data`` and ``vocab_size`` leave more than one.
    """
    groups: dict[tuple[str, int], list[tuple[float, float, float, float]]] = {}
    for run_id in ledger.run_ids():
        if ledger.outcome(run_id) is not Outcome.DONE:
            continue
        body = {k: v for record in ledger.records(run_id, RecordKind.RESULT) for k, v in record.body.items()}
        try:
            n_params, n_tokens = float(body["model"]["n_params"]), float(body["training"]["n_tokens"])
            point = (
                n_params,
                n_tokens,
                float(body["training"].get("compute_flops", FLOPS_PER_PARAM_TOKEN * n_params * n_tokens)),
                float(body["quality"]["heldout_nats_per_token"]),
            )
            group = (str(ledger.started(run_id).body["data"]), int(body["model"]["vocab_size"]))
        except (KeyError, TypeError, ValueError):
            continue  # it served, or another program kept it
        if not math.isfinite(point[-1]):
            continue  # it diverged
        if data in (None, group[0]) and vocab_size in (None, group[1]):
            groups.setdefault(group, []).append(point)
    if not groups:
        of = f" of data {data!r}" if data is not None else ""
        of += f" with a vocabulary of {vocab_size}" if vocab_size is not None else ""
        raise RequestError(f"ledger {ledger.path}: holds no finished training run{of} with a held-out loss")
    if len(groups) > 1:
        names = ", ".join(
            f"--data {shlex.quote(name)} --vocab-size {vocab} ({len(points)} runs)"
            for (name, vocab), points in sorted(groups.items())
        )
        raise RequestError(
            f"ledger {ledger.path}: losses of several data sets or vocabularies are not comparable; choose one: {names}"
        )
    (((name, vocab), points),) = groups.items()
    columns = dict(zip(("n_params", "n_tokens", "compute_flops", "loss"), zip(*points, strict=True), strict=True))
    return read_runs(columns, range(1, len(points) + 1), f"ledger, data {name}, vocabulary {vocab}")


def _table(path: Path) -> tuple[list[str], list[dict[str, str]], list[int]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            header = [name.strip() for name in reader.fieldnames or []]
            reader.fieldnames = header
            rows, lines = [], []
            for row in reader:
                if any((value or "").strip() for key, value in row.items() if key):
                    rows.append({key: (value or "").strip() for key, value in row.items() if key})
                    lines.append(reader.line_num)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a readable CSV file ({error})") from None
    if not rows:
        raise DataError(f"{path}: holds no rows")
    return header, rows, lines


def _recognised(header: Sequence[str]) -> dict[str, str]:
    plain = {name.lower(): name for name in header}
    found = {}
    for quantity, names in COLUMNS.items():
        match = next((plain[name] for name in names if name in plain), None)
        if match is not None:
            found[quantity] = match
    return found


def _named(columns: str | None, header: Sequence[str], path: Path) -> dict[str, str]:
    found = {}
    for part in (columns or "").split(","):
        if not part.strip():
            continue
        short, equals, column = (word.strip() for word in part.partition("="))
        quantity = _SHORT.get(short, short)
        if not equals or quantity not in COLUMNS:
            raise RequestError(
                f"--columns {part.strip()!r}: write QUANTITY=COLUMN, the quantity one of {', '.join(_SHORT)}"
            )
        if column not in header:
            raise RequestError(f"--columns {part.strip()!r}: {path} has no such column; it has {', '.join(header)}")
        found[quantity] = column
    return found


def _number(text: str, path: Path, line: int, column: str) -> float:
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return parse_count(text)
    except ValueError:
        raise DataError(f"{path}, line {line}: {column}={text!r}: not a number") from None
