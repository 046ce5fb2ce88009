"""Rows of a table of published training throughput: read as inputs of a forecast, or skipped with a reason.

A row's own throughput, MFU or hours never reach the forecast. What a row leaves out of its parallel plan is chosen by
the planner, as for a user who does not say; which software ran is read from the names of frameworks that the row
states and from the date of its paper. Units and names are those of the table: one line is one measurement of one model
on one number of chips.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

from twobills.counts.conventions import convention_flops_per_token
from twobills.counts.params import count_params
from twobills.errors import CatalogError, DataError, SpecError
from twobills.flows.validation.software import before_flash, says_recomputed, stack_of
from twobills.plan.space import Fixed
from twobills.specs import catalog
from twobills.specs.cluster import ClusterSpec
from twobills.specs.flop_totals import FlopConvention
from twobills.specs.model import ModelSpec, Norm
from twobills.specs.parallel import Recompute, Stack, Zero
from twobills.units import TERA, show_count

COLUMNS = ("source", "model", "seq_len", "n_chips", "chip", "parallelism", "note")
MEASURED = ("tokens_per_s_per_chip", "tokens_per_s_total", "seqs_per_s", "tflops_per_chip", "mfu", "hfu")
MOST, MOST_LAYERS = 1e9, 1e4
"""Of chips, tokens in a sequence, features; of layers. More is a mistake in the table."""
SHAPE_TOLERANCE = 0.25
"""A shape that counts to so much more or less than the row's parameters is not the model's: experts, for one."""
_RECOMPUTE = {
    "true": Recompute.FULL,
    "full": Recompute.FULL,
    "selective": Recompute.SELECTIVE,
    "per-op selective": Recompute.SELECTIVE,
    "false": Recompute.NONE,
    "none": Recompute.NONE,
}
_SHARDING = {"full_shard": Zero.PARAMETERS, "zero-3": Zero.PARAMETERS, "shard_grad_op": Zero.GRADIENTS}
_THOUSANDS = re.compile(r",(?=\d{3}(?!\d))")
_DEGREE = re.compile(r"\b(TP|PP|CP|EP|DP|FSDP|HSDP)[ =]?(\d+)", re.IGNORECASE)


class Skipped(NamedTuple):
    """A row that is not forecast, and why."""

    row: Mapping[str, str]
    eligible: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ThroughputRow:
    """One measurement: the inputs of its forecast, and what was measured."""

    source: str
    name: str
    model: ModelSpec
    cluster: ClusterSpec
    seq_len: int
    global_batch: float
    """Sequences per step."""
    fixed: Fixed
    stack: Stack
    fp8: bool
    tokens_per_s_per_chip: float
    """Measured."""


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file. Raises DataError if it cannot be read or is none."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a readable CSV file ({error})") from None
    if not rows:
        raise DataError(f"{path}: holds no rows")
    return [{key: (value or "").strip() for key, value in row.items() if key} for row in rows]


def throughput_rows(rows: list[dict[str, str]], where: str) -> Iterator[ThroughputRow | Skipped]:
    """Each row as inputs and measurement, or skipped. Raises DataError if a column that we need is missing."""
    if missing := [name for name in COLUMNS if name not in rows[0]]:
        raise DataError(f"{where}: column {missing[0]!r} is missing; a throughput table has {', '.join(COLUMNS)}")
    for row in rows:
        yield _read(row)


def _read(row: Mapping[str, str]) -> ThroughputRow | Skipped:
    try:
        if not any(number(row, name) for name in MEASURED):
            return Skipped(row, False, "no throughput, TFLOP/s or MFU")
        n_chips, seq_len = whole(row, "n_chips"), whole(row, "seq_len")
        fixed = fixed_of(row)
        batch = _global_batch(row, n_chips, fixed)
        if batch is None:
            return Skipped(row, False, "the batch is not stated")
        chip = catalog.chip(row["chip"])
        model = trained_at(model_of(row), seq_len)
        cluster = ClusterSpec(chip=chip, n_chips=n_chips)
        measured = _tokens_per_s_per_chip(row, model, cluster, seq_len)
    except (CatalogError, SpecError, DataError) as error:
        return Skipped(row, True, str(error))
    return ThroughputRow(
        source=row["source"],
        name=row["model"],
        model=model,
        cluster=cluster,
        seq_len=seq_len,
        global_batch=batch,
        fixed=fixed,
        stack=stack_of(row, degrees_of(row)),
        fp8="fp8" in (row.get("precision", "") or row.get("note", "")).lower(),
        tokens_per_s_per_chip=measured,
    )


def model_of(row: Mapping[str, str]) -> ModelSpec:
    """The shape of a row's model: the catalogue's of that name, unless the row's columns contradict it, else theirs.

    Raises CatalogError or DataError.
    """
    n_layers, d_model, n_heads = stated = (
        whole(row, "layers", MOST_LAYERS, blank=0),
        whole(row, "d_model", blank=0),
        whole(row, "n_heads", blank=0),
    )
    named = named_model(row["model"])
    if named is not None and all(
        n in (0, ours) for n, ours in zip(stated, (named.n_layers, named.d_model, named.n_heads), strict=True)
    ):
        return named
    if not (n_layers and d_model and n_heads):
        raise CatalogError(f"model {row['model']!r}: not in the catalogue, and the row does not state its shape")
    gated = row.get("gated_mlp", "") == "yes"
    model = ModelSpec(
        name=row["model"],
        n_layers=n_layers,
        d_model=d_model,
        n_heads=n_heads,
        n_kv_heads=int(number(row, "n_kv_heads") or n_heads),
        d_head=d_model // n_heads,
        d_ff=int(number(row, "d_ff") or 4 * d_model),
        vocab_size=int(needed(row, "vocab")),
        max_seq_len=int(needed(row, "seq_len")),
        gated_mlp=gated,
        norm=Norm.RMS if gated else Norm.LAYER,
        n_learned_positions=0 if gated else int(needed(row, "seq_len")),
        tied_embeddings=not gated,
        parallel_block="parallel block" in row.get("note", ""),
    )
    counted, said = count_params(model).total, number(row, "params") or number(row, "params_total")
    if said and abs(counted / said - 1) > SHAPE_TOLERANCE:
        raise DataError(
            f"model {row['model']!r}: its columns make {show_count(counted)} parameters of a dense model, "
            f"the row says {show_count(said)}"
        )
    return model


def named_model(name: str) -> ModelSpec | None:
    """The catalogue's model of that name or alias, however it is spelt, what stands in brackets left out."""
    bare = re.sub(r"\(.*?\)", "", name).strip()
    if (found := _names().get(_plain(bare))) is not None:
        return found
    try:
        return catalog.model(bare)
    except CatalogError:
        return None


def trained_at(model: ModelSpec, seq_len: int) -> ModelSpec:
    """Learned positions are as many as the sequence is long; others stretch."""
    positions = seq_len if model.n_learned_positions else 0
    return replace(model, max_seq_len=max(model.max_seq_len, seq_len), n_learned_positions=positions)


def fixed_of(row: Mapping[str, str]) -> Fixed:
    """What of the parallel plan a row states; what it does not is free."""
    parallelism = row.get("parallelism", "")
    degrees = degrees_of(row)
    stated = bool(degrees)
    zero = _SHARDING.get(row.get("sharding", "").lower())
    if zero is None and "fsdp" in degrees:
        zero = Zero.PARAMETERS
    micro = number(row, "micro_batch") or None
    local = re.search(r"local batch (\d+)", row.get("note", ""))
    if micro is None and local and "pp" not in degrees:
        micro = float(local.group(1))
    interleaved = re.search(r"(\d+) stages per rank|\bVP[ =]?(\d+)", parallelism, re.IGNORECASE)
    recompute = _RECOMPUTE.get(row.get("activation_checkpointing", "").lower())
    if recompute is None and (says_recomputed(row) or before_flash(row)):
        recompute = Recompute.FULL
    return Fixed(
        tp=degrees.get("tp", 1 if stated else None),
        pp=degrees.get("pp", 1 if stated else None),
        cp=degrees.get("cp", 1 if stated else None),
        ep=degrees.get("ep"),
        zero=zero,
        interleave=int(interleaved.group(1) or interleaved.group(2)) if interleaved else None,
        micro_batch=micro,
        recompute=recompute,
    )


def degrees_of(row: Mapping[str, str]) -> dict[str, int]:
    """``TP8 PP16 CP1 DP64`` as numbers; a bare FSDP says that there is nothing else."""
    parallelism = row.get("parallelism", "")
    found = {name.lower(): int(n) for name, n in _DEGREE.findall(parallelism)}
    if 0 in found.values():
        raise DataError(f"parallelism={parallelism!r}: degrees must be at least 1")
    if not found and re.search(r"\b(FSDP|HSDP|DDP)\b", parallelism, re.IGNORECASE):
        found["fsdp"] = 0
    return found


def _global_batch(row: Mapping[str, str], n_chips: int, fixed: Fixed) -> float | None:
    """Sequences per step: stated, or the batch per replica times the replicas."""
    if stated := number(row, "global_batch_seqs"):
        return stated
    if tokens := number(row, "global_batch_tokens"):
        return tokens / needed(row, "seq_len")
    replicas = n_chips / ((fixed.tp or 1) * (fixed.pp or 1) * (fixed.cp or 1))
    if per_replica := re.search(r"(?:local batch|batch/DP) (\d+)", row.get("note", "")):
        return float(per_replica.group(1)) * replicas
    if fixed.micro_batch:
        return fixed.micro_batch * (number(row, "grad_accum") or 1.0) * replicas
    return None


def _tokens_per_s_per_chip(row: Mapping[str, str], model: ModelSpec, cluster: ClusterSpec, seq_len: int) -> float:
    """What was measured; from FLOP/s as such tables count them (6N and the whole square) if tokens are not given."""
    if stated := number(row, "tokens_per_s_per_chip"):
        return stated
    if total := number(row, "tokens_per_s_total"):
        return total / cluster.n_chips
    if sequences := number(row, "seqs_per_s"):
        return sequences * seq_len / cluster.n_chips
    per_token = convention_flops_per_token(model, seq_len, FlopConvention.PALM)
    if (mfu := number(row, "mfu")) is not None:
        if mfu > 1:
            raise DataError(f"mfu={row['mfu']!r}: must be a fraction of the peak, at most 1")
        return mfu * (cluster.train_peak or 0.0) / per_token
    if tflops := number(row, "tflops_per_chip"):
        return tflops * TERA / per_token
    raise DataError("only a hardware FLOP/s is given, and its convention is not stated")


def number(row: Mapping[str, str], key: str) -> float | None:
    """A cell as a number, None if it is empty. Raises DataError if it is something else."""
    text = row.get(key, "")
    if not text:
        return None
    try:
        value = float(_THOUSANDS.sub("", text))
    except ValueError:
        raise DataError(f"{key}={text!r}: not a number") from None
    if not (math.isfinite(value) and value >= 0):
        raise DataError(f"{key}={text!r}: not a number of at least 0")
    return value


def needed(row: Mapping[str, str], key: str) -> float:
    """A cell that must hold a number. Raises DataError."""
    value = number(row, key)
    if value is None:
        raise DataError(f"{key} is missing")
    return value


def whole(row: Mapping[str, str], key: str, most: float = MOST, *, blank: int | None = None) -> int:
    """A cell that holds a whole number of at least 1, or ``blank`` if it may be empty. Raises DataError."""
    if blank is not None and not row.get(key):
        return blank
    value = needed(row, key)
    if not 1 <= value <= most or value != int(value):
        raise DataError(f"{key}={row[key]!r}: must be a whole number of at least 1, at most {most:g}")
    return int(value)


@cache
def _names() -> Mapping[str, ModelSpec]:
    return {_plain(name): spec for name, spec in catalog.models().items()}


def _plain(name: str) -> str:
    """``GPT-3 175B`` without what differs by spelling: ``gpt3175b``."""
    return re.sub(r"[\s_-]+", "", name.lower())
