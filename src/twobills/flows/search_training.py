"""What ``twobills search training`` does: from names and words to the best ways to train, as one document.

The batch, where it is not given in sequences, is one that all of the offered numbers of chips can share out, as in
``plan training``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twobills.counts.llama_shape import llama_shape
from twobills.counts.params import count_params
from twobills.errors import RequestError, TargetError
from twobills.flows.asked import MOST_TOKENS, quantity, resolve_model
from twobills.flows.offered_chips import chip_prices, offered_clusters
from twobills.flows.plan_training import operated, seq_len_words, shared_batch, usual_seq_len
from twobills.flows.training_document import about_failures, about_family, about_pauses
from twobills.meter.clock import Clock, monotonic
from twobills.money.rates import Rates
from twobills.perf.achieved import achieved
from twobills.plan.global_batch import RULE
from twobills.plan.search import FoundPlan, Job, Objective, Offer, search_training
from twobills.plan.space import Fixed
from twobills.plan.training import whole_run_spread
from twobills.report.search_document import search_to_json
from twobills.specs.calibration import published_calibration
from twobills.specs.cluster import ClusterSpec
from twobills.specs.dtype import DType
from twobills.specs.model import ModelSpec
from twobills.specs.parallel import ParallelSpec, Stack
from twobills.specs.run import TRAINING_DTYPES, TrainingRun
from twobills.units import SECONDS_PER_DAY, per_s_to_per_hour, show_frac

ANY_DTYPE = "any"


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRequest:
    """What was asked, in the user's words."""

    model: str | None
    chips: str
    """``NAME:COUNT``, several with commas."""
    tokens: str
    params: str | None = None
    batch_tokens: str | None = None
    batch_size: int | None = None
    """Sequences; kept as it is."""
    seq_len: int | None = None
    dtype: str = ANY_DTYPE
    stack: Stack = Stack.OVERLAPPED
    objective: Objective = Objective.TIME
    fixed: Fixed = field(default_factory=Fixed)
    top: int = 10
    max_days: float | None = None
    usd_per_chip_hour: str | None = None
    """One price for all chips, or ``NAME=USD``, several with commas."""
    owned: bool = False
    pue: float | None = None
    mtbf_hours: float | None = None
    network_gbps: float | None = None
    """Network of one chip, Gbit/s."""
    catalog_file: Path | None = None


def search(asked: SearchRequest, clock: Clock = monotonic) -> dict[str, Any]:
    """The document that ``twobills search training --json`` prints. Raises RequestError for a wrong request."""
    if asked.owned and asked.usd_per_chip_hour is not None:
        raise RequestError("--owned and --usd-per-chip-hour: give one of the two")
    model = _model(asked)
    clusters = offered_clusters(asked.chips, asked.network_gbps, asked.catalog_file)
    job = _job(asked, model, clusters)
    rates = chip_prices(
        [cluster.chip for cluster in clusters],
        asked.usd_per_chip_hour,
        asked.catalog_file,
        owning=asked.owned,
        running=job.running,
    )
    offers, refused = _offers(asked, clusters, rates)
    max_wall_s = None if asked.max_days is None else asked.max_days * SECONDS_PER_DAY
    start_s = clock()
    found = search_training(job, offers, objective=asked.objective, top=asked.top, max_wall_s=max_wall_s)
    return {
        **search_to_json(
            job,
            found,
            n_params=count_params(model).total,
            objective=asked.objective,
            max_days=asked.max_days,
        ),
        "search_s": clock() - start_s,
        "refused": [
            {"chip": cluster.chip.name, "n_chips": cluster.n_chips, "reason": reason}
            for cluster, reason in (*refused, *found.refused)
        ],
        "command": command(asked, found.ranking[0], job),
        "assumed": _assumed(asked, job, offers, rates),
    }


def check_deadline(document: Mapping[str, Any]) -> None:
    """Raises TargetError, saying by how much, where ``--max-days`` was not met."""
    if document["missed"]:
        raise TargetError(document["missed"])


def command(asked: SearchRequest, winner: FoundPlan, job: Job) -> str:
    """The winner as the command that plans its whole bill: failures, energy, who gets each dollar."""
    cluster = winner.offer.cluster
    price = f"{per_s_to_per_hour(winner.offer.usd_per_chip_s):g}" if asked.usd_per_chip_hour else None
    flags = {
        "params": asked.params,
        "tokens": asked.tokens,
        "chips": f"{cluster.chip.name}:{cluster.n_chips}",
        "batch-size": job.global_batch,
        "seq-len": job.seq_len,
        "dtype": winner.dtype.value,
        **_plan_flags(winner.spec),
        "stack": None if asked.stack is Stack.OVERLAPPED else asked.stack.value,
        "network-gbps": None if asked.network_gbps is None else f"{asked.network_gbps:g}",
        "usd-per-chip-hour": price,
        "pue": None if asked.pue is None else f"{asked.pue:g}",
        "mtbf-hours": None if asked.mtbf_hours is None else f"{asked.mtbf_hours:g}",
        "catalog": asked.catalog_file,
    }
    words = ["twobills plan training", *([asked.model] if asked.model else [])]
    given = [f"--{name} {value}" for name, value in flags.items() if value is not None]
    return " ".join([*words, *given, *(["--owned"] if asked.owned else [])])


def _plan_flags(spec: ParallelSpec) -> dict[str, object]:
    return {
        "tp": spec.tp,
        "pp": spec.pp,
        "cp": spec.cp,
        "ep": spec.ep if spec.ep > 1 else None,
        "zero": spec.zero.value,
        "shard": spec.shard if spec.zero else None,
        "interleave": spec.interleave if spec.pp > 1 else None,
        "micro-batch": spec.micro_batch,
        "recompute": spec.recompute.name.lower(),
    }


def _model(asked: SearchRequest) -> ModelSpec:
    if (asked.model is None) == (asked.params is None):
        raise RequestError("MODEL or --params: give a model or a size like 8e9, one of the two")
    if asked.params is not None:
        return llama_shape(quantity("--params", asked.params))
    return resolve_model(asked.model or "", asked.catalog_file)


def _offers(
    asked: SearchRequest, clusters: Sequence[ClusterSpec], rates: Mapping[str, Rates | str]
) -> tuple[list[Offer], list[tuple[ClusterSpec, str]]]:
    """What can be searched, and what cannot with the reason. Raises RequestError if nothing can."""
    dtypes = TRAINING_DTYPES if asked.dtype == ANY_DTYPE else (_dtype(asked.dtype),)
    offers, refused = [], []
    for cluster in clusters:
        chip_rates = rates[cluster.chip.name]
        having = tuple(dtype for dtype in dtypes if dtype is DType.BF16 or dtype in cluster.chip.peak_flops_per_s)
        if isinstance(chip_rates, str):
            refused.append((cluster, chip_rates))
        elif not having:
            refused.append((cluster, f"chip {cluster.chip.name}: has no {asked.dtype}; use --dtype any or bf16"))
        else:
            offers.append(_offer(asked, cluster, chip_rates, having))
    if not offers:
        raise RequestError("; ".join(dict.fromkeys(reason for _, reason in refused)))
    return offers, refused


def _offer(asked: SearchRequest, cluster: ClusterSpec, rates: Rates, dtypes: tuple[DType, ...]) -> Offer:
    calibration = published_calibration()
    speed = achieved(cluster, asked.stack, calibration)
    return Offer(
        cluster=cluster,
        rates=speed,
        hours=whole_run_spread(float(speed.log_sigma), calibration),
        usd_per_chip_s=rates.usd_per_chip_s,
        dtypes=dtypes,
        speed_assumed=about_family(cluster.chip, calibration),
        price_assumed=rates.source if rates.assumed else None,
    )


def _job(asked: SearchRequest, model: ModelSpec, clusters: Sequence[ClusterSpec]) -> Job:
    n_tokens = quantity("--tokens", asked.tokens, MOST_TOKENS)
    seq_len = asked.seq_len or usual_seq_len(asked.model, model, asked.catalog_file)
    if asked.batch_tokens is not None and asked.batch_size is not None:
        raise RequestError("--batch-tokens and --batch-size: give one of the two")
    counts = [cluster.n_chips for cluster in clusters]
    global_batch = asked.batch_size or shared_batch(model, n_tokens, seq_len, counts, asked.batch_tokens)
    run = TrainingRun(n_tokens=n_tokens, seq_len=seq_len, global_batch=global_batch)
    running = operated(pue=asked.pue, mtbf_hours=asked.mtbf_hours)
    return Job(model, run.n_tokens, run.seq_len, run.global_batch, asked.fixed, running)


def _dtype(text: str) -> DType:
    try:
        return TRAINING_DTYPES[[dtype.value for dtype in TRAINING_DTYPES].index(text)]
    except ValueError:
        raise RequestError(f"--dtype {text!r}: must be one of any, {', '.join(TRAINING_DTYPES)}") from None


def _assumed(asked: SearchRequest, job: Job, offers: Sequence[Offer], rates: Mapping[str, Rates | str]) -> list[str]:
    model, running = job.model, job.running
    found = [f"price of {chip}: {r.source}" for chip, r in rates.items() if not isinstance(r, str) and r.assumed]
    found += dict.fromkeys(offer.speed_assumed for offer in offers if offer.speed_assumed)
    if asked.batch_size is None and asked.batch_tokens is None:
        found.append(f"batch of {job.global_batch} sequences: {RULE}")
    if asked.seq_len is None:
        found.append(seq_len_words(asked.model, job.seq_len, asked.catalog_file))
    if asked.params is not None:
        found.append(f"the shape: Llama 3's proportions, {model.n_layers} layers of width {model.d_model}")
    if asked.mtbf_hours is None:
        found.append(about_failures(running))
    found.append(f"evaluation over training time: {show_frac(running.evaluation_frac)}")
    found.append(about_pauses(running))
    found.append(
        "intervals: how far the hours of published runs ended from such forecasts; prices are taken as they are"
    )
    return found
