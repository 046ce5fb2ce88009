"""The predicted training bill of a run, from what a user asked to the document that ``plan training --json`` prints.

Reads the flags into specs, plans (``plan.training``), sets who gets each dollar beside the bill, and tries what would
change it most: the same run in fp8, without failures, on twice the network, at the cheapest known price.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from twobills.counts.llama_shape import llama_shape
from twobills.counts.params import count_params
from twobills.errors import CatalogError, RequestError, SpecError
from twobills.flows.chip_terms import Terms, chip_terms, split_of
from twobills.flows.training_document import assumptions, chip_to_json, model_to_json, run_plan_to_json
from twobills.plan.explain import explain
from twobills.plan.global_batch import RULE, default_global_batch
from twobills.plan.space import Fixed
from twobills.plan.training import RunPlan, plan_run, without_failures
from twobills.report.documents import SCHEMA
from twobills.specs import catalog
from twobills.specs.calibration import published_calibration
from twobills.specs.cluster import ClusterSpec
from twobills.specs.dtype import DType
from twobills.specs.hf import read_config
from twobills.specs.model import ModelSpec
from twobills.specs.parallel import Stack
from twobills.specs.prices import PriceKind
from twobills.specs.run import JobKind, TrainingRun
from twobills.specs.running import Running, default_running
from twobills.units import BITS_PER_BYTE, GIGA, SECONDS_PER_HOUR, parse_count

MAX_SEQ_LEN = 8192
"""The default training sequence is at most so long."""

_KIND_WORDS: Mapping[PriceKind, str] = {
    PriceKind.ON_DEMAND: "on demand",
    PriceKind.LIST: "by the price list",
    PriceKind.RESERVED_1Y: "reserved for a year",
    PriceKind.RESERVED_3Y: "reserved for three years",
    PriceKind.OWN: "of your own",
}


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


def plan_training_document(asked: TrainingRequest, *, with_parts: bool = False) -> dict[str, Any]:
    """The document. ``with_parts`` adds the step taken apart."""
    planned = planned_run(asked)
    plan, terms = planned.plan, planned.terms
    training = {
        **run_plan_to_json(plan),
        "split": split_of(plan.bill, plan.cluster.chip, terms),
        "split_reason": terms.no_cost or None,
        "levers": _levers(asked, planned),
    }
    document = {
        "schema": SCHEMA,
        "model": model_to_json(plan.model),
        "chip": chip_to_json(plan.cluster),
        "training": training,
        "assumed": [*_assumed_by_us(asked, plan), *assumptions(plan, published_calibration())],
    }
    if with_parts:
        document["step_parts"] = [part.to_json(plan.step.seconds) for part in explain(plan.step)]
    return document


class PlannedRun(NamedTuple):
    """A plan with the terms it was priced at."""

    plan: RunPlan
    terms: Terms


def planned_run(asked: TrainingRequest) -> PlannedRun:
    """The plan that was asked for. Raises RequestError or SpecError, one line, for what cannot be."""
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


def resolve_model(name: str, catalog_file: Path | None = None) -> ModelSpec:
    """A catalogue name, a ``config.json`` or a folder with one. Raises RequestError if it is none of them."""
    path = Path(name)
    if path.is_dir():
        return read_config(path / "config.json")
    if path.is_file():
        return read_config(path)
    try:
        return catalog.model(name, catalog_file)
    except CatalogError as error:
        raise RequestError(f"{error}; a path to a config.json or a model folder works too") from None


def parse_chips(text: str) -> tuple[str, int]:
    """Name and count of ``h100-sxm:16384``; one chip where no count is given. Raises RequestError."""
    name, colon, count = text.partition(":")
    if "," in text:
        raise RequestError(f"--chips {text!r}: one kind of chip trains one run; several are for `search training`")
    try:
        n_chips = int(parse_count(count)) if colon else 1
    except ValueError:
        n_chips = 0
    if n_chips < 1 or not name:
        raise RequestError(f"--chips {text!r}: write it as NAME:COUNT, like h100-sxm:1024")
    return name, n_chips


def quantity(option: str, text: str) -> float:
    """A count that an option gives, above 0. Raises RequestError, naming the option."""
    try:
        value = parse_count(text)
    except ValueError as error:
        raise RequestError(f"{option} {error}") from None
    if value <= 0:
        raise RequestError(f"{option} {text}: must be above 0")
    return value


def _model(asked: TrainingRequest) -> ModelSpec:
    if (asked.model is None) == (asked.params is None):
        raise RequestError("MODEL or --params: give a model or a size like 8e9, one of the two")
    if asked.params is not None:
        return llama_shape(quantity("--params", asked.params))
    return resolve_model(asked.model or "", asked.catalog_file)


def _cluster(asked: TrainingRequest) -> ClusterSpec:
    name, n_chips = parse_chips(asked.chips)
    network = None if asked.network_gbps is None else asked.network_gbps * GIGA / BITS_PER_BYTE
    return ClusterSpec(chip=catalog.chip(name, asked.catalog_file), n_chips=n_chips, scaleout_bytes_per_s=network)


def _run(asked: TrainingRequest, model: ModelSpec, cluster: ClusterSpec) -> TrainingRun:
    n_tokens = quantity("--tokens", asked.tokens)
    seq_len = asked.seq_len or min(model.max_seq_len, MAX_SEQ_LEN)
    return TrainingRun(
        job=asked.job,
        n_tokens=n_tokens,
        seq_len=seq_len,
        global_batch=_global_batch(asked, model, n_tokens, seq_len, cluster.n_chips),
        dtype=asked.dtype,
        stack=asked.stack,
        lora_rank=16 if asked.job is JobKind.LORA and asked.lora_rank is None else asked.lora_rank,
        teacher=resolve_model(asked.teacher, asked.catalog_file) if asked.teacher else None,
    )


def _global_batch(asked: TrainingRequest, model: ModelSpec, n_tokens: float, seq_len: int, n_chips: int) -> int:
    if asked.batch_tokens is not None and asked.batch_size is not None:
        raise RequestError("--batch-tokens and --batch-size: give one of the two")
    if asked.batch_size is not None:
        return asked.batch_size
    if asked.batch_tokens is None:
        params = count_params(model)
        return default_global_batch(n_tokens, seq_len, n_chips, sparsity=params.total / params.active)
    return max(1, round(quantity("--batch-tokens", asked.batch_tokens) / seq_len))


def _running(asked: TrainingRequest) -> Running:
    running = default_running()
    if asked.pue is not None:
        running = replace(running, pue=asked.pue)
    if asked.mtbf_hours is not None:
        running = replace(running, mtbf_chip_s=asked.mtbf_hours * SECONDS_PER_HOUR)
    if asked.evaluation_frac is not None:
        running = replace(running, evaluation_frac=asked.evaluation_frac)
    return running if asked.failures else without_failures(running)


def _levers(asked: TrainingRequest, planned: PlannedRun) -> list[dict[str, Any]]:
    """What else the run could be, with what it would cost; what would save most first."""
    before = planned.plan.bill.total_usd
    found: list[tuple[float, str]] = []
    for name, other in _other_requests(asked, planned):
        try:
            found.append((planned_run(other).plan.bill.total_usd, name))
        except (SpecError, CatalogError):
            continue
    return [{"change": name, "total_usd": usd, "saves_usd": before - usd} for usd, name in sorted(found)]


def _other_requests(asked: TrainingRequest, planned: PlannedRun) -> Iterator[tuple[str, TrainingRequest]]:
    chip, cluster = planned.plan.cluster.chip, planned.plan.cluster
    if asked.dtype is not DType.FP8 and DType.FP8 in chip.peak_flops_per_s:
        yield "training in fp8", replace(asked, dtype=DType.FP8)
    if asked.failures:
        yield "losing nothing to failures and pauses", replace(asked, failures=False)
    network = cluster.scaleout_bytes_per_s or chip.scaleout_bytes_per_s
    if network is not None and cluster.n_chips > cluster.n_fast:
        yield "twice the network", replace(asked, network_gbps=2 * network * BITS_PER_BYTE / GIGA)
    if not asked.owned and asked.usd_per_chip_hour is None:
        kinds = dict.fromkeys(price.kind for price in catalog.chip_prices(chip.name, asked.catalog_file))
        for kind in kinds:
            if kind not in (PriceKind.SPOT, asked.price_kind):  # spot chips may be taken away
                yield f"the price of chips {_KIND_WORDS[kind]}", replace(asked, price_kind=kind)


def _assumed_by_us(asked: TrainingRequest, plan: RunPlan) -> list[str]:
    """What nobody said and we chose."""
    found = []
    if asked.batch_size is None and asked.batch_tokens is None:
        found.append(f"batch of {plan.run.global_batch:,} sequences: {RULE}")
    if asked.seq_len is None:
        found.append(f"sequences of {plan.run.seq_len} tokens")
    if asked.params is not None:
        shape = plan.model
        found.append(
            f"the shape: Llama 3's proportions, {shape.n_layers} layers of width {shape.d_model}, {shape.n_heads} "
            f"heads of {shape.d_head}, MLP of {shape.d_ff}, vocabulary {shape.vocab_size}"
        )
    if asked.job is JobKind.LORA and asked.lora_rank is None:
        found.append("adapters of rank 16")
    return found
