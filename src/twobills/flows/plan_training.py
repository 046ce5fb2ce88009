"""A planned training run from what a user asked: flags read into specs, refused in one line where they cannot be.

What stands in for what was not given: a batch that the chips can share (``plan.global_batch``), sequences as long as in
the model's own pre-training where that is known, the catalogue's price. ``flows.training_bill`` makes the document.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from twobills.counts.llama_shape import llama_shape
from twobills.counts.params import sparsity
from twobills.errors import RequestError, SpecError
from twobills.flows.asked import MOST_TOKENS, network_bytes_per_s, parse_chips, quantity, resolve_model
from twobills.flows.chip_terms import Terms, chip_terms
from twobills.plan.global_batch import default_global_batch, sharable_batch
from twobills.plan.space import Fixed
from twobills.plan.training import RunPlan, plan_run, without_failures
from twobills.specs import catalog
from twobills.specs.calibration import published_calibration
from twobills.specs.cluster import ClusterSpec
from twobills.specs.dtype import DType
from twobills.specs.model import ModelSpec
from twobills.specs.parallel import Stack
from twobills.specs.prices import PriceKind
from twobills.specs.run import JobKind, TrainingRun
from twobills.specs.running import Running, default_running
from twobills.units import SECONDS_PER_HOUR

MAX_SEQ_LEN = 8192
"""The default training sequence is at most so long, where the model's own is not known."""
DEFAULT_LORA_RANK = 16
_EXCLUSIVE = (
    ("--batch-tokens", "--batch-size"),
    ("--owned", "--usd-per-chip-hour"),
    ("--owned", "--price-kind"),
    ("--usd-per-chip-hour", "--price-kind"),
    ("--no-failures", "--mtbf-hours"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRequest:
    """What ``twobills plan training`` was asked; None where nothing was said."""

    model: str | None
    tokens: str
    chips: str
    params: str | None = None
    batch_tokens: str | None = None
    batch_size: int | None = None
    seq_len: int | None = None
    dtype: DType = DType.BF16
    job: JobKind = JobKind.PRETRAIN
    lora_rank: int | None = None
    teacher: str | None = None
    stack: Stack = Stack.OVERLAPPED
    fixed: Fixed = field(default_factory=Fixed)
    dp: int | None = None
    network_gbps: float | None = None
    owned: bool = False
    usd_per_chip_hour: float | None = None
    price_kind: PriceKind | None = None
    pue: float | None = None
    mtbf_hours: float | None = None
    failures: bool = True
    evaluation_frac: float | None = None
    catalog_file: Path | None = None


class PlannedRun(NamedTuple):
    """A plan with the terms it was priced at."""

    plan: RunPlan
    terms: Terms


def planned_run(asked: TrainingRequest) -> PlannedRun:
    """The plan that was asked for. Raises RequestError or SpecError, one line, for what cannot be."""
    _check_options(asked)
    model = _model(asked)
    cluster = _cluster(asked)
    run = _run(asked, model, cluster)
    running = _running(asked)
    terms = chip_terms(
        cluster.chip,
        running,
        owning=asked.owned,
        usd_per_chip_hour=asked.usd_per_chip_hour,
        kind=asked.price_kind,
        catalog_file=asked.catalog_file,
    )
    plan = plan_run(model, run, cluster, terms.rates, running, published_calibration(), fixed=asked.fixed, dp=asked.dp)
    return PlannedRun(plan, terms)


def usual_seq_len(name: str | None, model: ModelSpec, catalog_file: Path | None = None) -> int:
    """Tokens of a training sequence where nobody says: as in the model's own pre-training, else up to 8192.

    ``name``: what the user wrote for the model; a path's model is not the catalogue's, whatever it is called.
    """
    return _own_seq_len(name, catalog_file) or min(model.max_seq_len, MAX_SEQ_LEN)


def seq_len_words(name: str | None, seq_len: int, catalog_file: Path | None = None) -> str:
    """That nobody gave the sequence length, and where it comes from."""
    own = " as in the model's own pre-training" if _own_seq_len(name, catalog_file) else ""
    return f"sequences of {seq_len} tokens{own}"


def shared_batch(
    model: ModelSpec, n_tokens: float, seq_len: int, chip_counts: Sequence[int], batch_tokens: str | None
) -> int:
    """Sequences of a step: near what is wanted in tokens, or what is usual, and such that the chips can share them."""
    wanted: float = default_global_batch(n_tokens, seq_len, max(chip_counts), sparsity=sparsity(model))
    if batch_tokens is not None:
        wanted = quantity("--batch-tokens", batch_tokens, MOST_TOKENS) / seq_len
    found = sharable_batch(wanted, chip_counts)
    return found if wanted * seq_len > n_tokens else min(found, max(1, int(n_tokens // seq_len)))


def operated(*, pue: float | None, mtbf_hours: float | None, evaluation_frac: float | None = None) -> Running:
    """The usual operation but for what is given. Raises RequestError, naming the option."""
    running = default_running()
    mtbf_s = None if mtbf_hours is None else mtbf_hours * SECONDS_PER_HOUR
    for option, given, name, value in (
        ("--pue", pue, "pue", pue),
        ("--mtbf-hours", mtbf_hours, "mtbf_chip_s", mtbf_s),
        ("--evaluate-frac", evaluation_frac, "evaluation_frac", evaluation_frac),
    ):
        if value is None:
            continue
        try:
            change: dict[str, Any] = {name: value}
            running = replace(running, **change)
        except SpecError as error:
            raise RequestError(f"{option} {given:g}:{str(error).partition(':')[2]}") from None
    return running


def _own_seq_len(name: str | None, catalog_file: Path | None) -> int | None:
    return None if name is None or Path(name).exists() else catalog.train_seq_len(name, catalog_file)


def _model(asked: TrainingRequest) -> ModelSpec:
    if (asked.model is None) == (asked.params is None):
        raise RequestError("MODEL or --params: give a model or a size like 8e9, one of the two")
    if asked.params is not None:
        return llama_shape(quantity("--params", asked.params))
    return resolve_model(asked.model or "", asked.catalog_file)


def _cluster(asked: TrainingRequest) -> ClusterSpec:
    name, n_chips = parse_chips(asked.chips)
    network = network_bytes_per_s(asked.network_gbps)
    cluster = ClusterSpec(chip=catalog.chip(name, asked.catalog_file), n_chips=n_chips, scaleout_bytes_per_s=network)
    try:
        cluster.check_links()
    except SpecError as error:
        raise type(error)(f"{error} or with --network-gbps") from None
    return cluster


def _run(asked: TrainingRequest, model: ModelSpec, cluster: ClusterSpec) -> TrainingRun:
    n_tokens = quantity("--tokens", asked.tokens, MOST_TOKENS)
    seq_len = asked.seq_len or usual_seq_len(asked.model, model, asked.catalog_file)
    batch = asked.batch_size or shared_batch(model, n_tokens, seq_len, [cluster.n_chips], asked.batch_tokens)
    return TrainingRun(
        job=asked.job,
        n_tokens=n_tokens,
        seq_len=seq_len,
        global_batch=batch,
        dtype=asked.dtype,
        stack=asked.stack,
        lora_rank=_lora_rank(asked, model),
        teacher=resolve_model(asked.teacher, asked.catalog_file) if asked.teacher else None,
    )


def _lora_rank(asked: TrainingRequest, model: ModelSpec) -> int | None:
    if asked.lora_rank is None:
        return min(DEFAULT_LORA_RANK, model.d_model) if asked.job is JobKind.LORA else None
    if asked.lora_rank > model.d_model:
        raise RequestError(
            f"--lora-rank {asked.lora_rank}: above d_model={model.d_model} of {model.name}; smaller adapters do"
        )
    return asked.lora_rank


def _running(asked: TrainingRequest) -> Running:
    running = operated(pue=asked.pue, mtbf_hours=asked.mtbf_hours, evaluation_frac=asked.evaluation_frac)
    return running if asked.failures else without_failures(running)


def _check_options(asked: TrainingRequest) -> None:
    """Raises RequestError for two that contradict each other."""
    given = {
        "--batch-tokens": asked.batch_tokens is not None,
        "--batch-size": asked.batch_size is not None,
        "--owned": asked.owned,
        "--usd-per-chip-hour": asked.usd_per_chip_hour is not None,
        "--price-kind": asked.price_kind is not None,
        "--no-failures": not asked.failures,
        "--mtbf-hours": asked.mtbf_hours is not None,
    }
    for one, other in _EXCLUSIVE:
        if given[one] and given[other]:
            raise RequestError(f"{one} and {other}: give one of the two")
