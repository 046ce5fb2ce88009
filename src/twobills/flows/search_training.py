"""What ``twobills search training`` does: from names and words to the best ways to train, as one document.

The batch, where it is not given in sequences, is the number of sequences within 5 % of what is wanted that the
offered numbers of chips share most divisors with: otherwise few parallel plans could deal it out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twobills.counts.llama_shape import llama_shape
from twobills.counts.params import count_params, sparsity
from twobills.errors import RequestError, TargetError
from twobills.flows.offered_chips import chip_prices, offered_clusters
from twobills.flows.plan_training import MAX_SEQ_LEN, quantity, resolve_model
from twobills.meter.clock import Clock, monotonic
from twobills.money.rates import Rates
from twobills.perf.achieved import achieved
from twobills.plan.global_batch import RULE, default_global_batch
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
from twobills.specs.running import default_running
from twobills.units import SECONDS_PER_DAY, per_s_to_per_hour, show_frac, show_seconds

ANY_DTYPE = "any"
BATCH_TOLERANCE_FRAC = 0.05


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
    network_gbps: float | None = None
    """Network of one chip, Gbit/s."""
    catalog_file: Path | None = None


def search(asked: SearchRequest, clock: Clock = monotonic) -> dict[str, Any]:
    """The document that ``twobills search training --json`` prints. Raises RequestError for a wrong request."""
    model = _model(asked)
    clusters = offered_clusters(asked.chips, asked.network_gbps, asked.catalog_file)
    rates = chip_prices([cluster.chip for cluster in clusters], asked.usd_per_chip_hour, asked.catalog_file)
    job = _job(asked, model, clusters)
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
            calibration = published_calibration()
            speed = achieved(cluster, asked.stack, calibration)
            hours = whole_run_spread(float(speed.log_sigma), calibration)
            offers.append(Offer(cluster, speed, hours, chip_rates.usd_per_chip_s, having))
    if not offers:
        raise RequestError("; ".join(dict.fromkeys(reason for _, reason in refused)))
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
        "assumed": _assumed(asked, model, job, rates),
    }


def check_deadline(document: Mapping[str, Any]) -> None:
    """Raises TargetError, saying by how much, where ``--max-days`` was not met."""
    if document["missed"]:
        raise TargetError(document["missed"])


def sharable_batch(wanted: float, chip_counts: Sequence[int]) -> int:
    """Sequences within 5 % of ``wanted``: those with the largest common divisors with the numbers of chips."""
    least = max(1, math.ceil(wanted * (1 - BATCH_TOLERANCE_FRAC)))
    most = max(least, math.floor(wanted * (1 + BATCH_TOLERANCE_FRAC)))

    def merit(batch: int) -> tuple[int, float]:
        return math.prod(math.gcd(batch, n) for n in chip_counts), -abs(batch - wanted)

    return max(range(least, most + 1), key=merit)


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
        "catalog": asked.catalog_file,
    }
    words = ["twobills plan training", *([asked.model] if asked.model else [])]
    return " ".join([*words, *(f"--{name} {value}" for name, value in flags.items() if value is not None)])


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


def _job(asked: SearchRequest, model: ModelSpec, clusters: Sequence[ClusterSpec]) -> Job:
    n_tokens = quantity("--tokens", asked.tokens)
    seq_len = asked.seq_len or min(model.max_seq_len, MAX_SEQ_LEN)
    if asked.batch_tokens is not None and asked.batch_size is not None:
        raise RequestError("--batch-tokens and --batch-size: give one of the two")
    global_batch = asked.batch_size
    if global_batch is None:
        counts = [cluster.n_chips for cluster in clusters]
        wanted: float = default_global_batch(n_tokens, seq_len, max(counts), sparsity=sparsity(model))
        if asked.batch_tokens is not None:
            wanted = quantity("--batch-tokens", asked.batch_tokens) / seq_len
        global_batch = sharable_batch(wanted, counts)
    run = TrainingRun(n_tokens=n_tokens, seq_len=seq_len, global_batch=global_batch)
    return Job(model, run.n_tokens, run.seq_len, run.global_batch, asked.fixed, default_running())


def _dtype(text: str) -> DType:
    try:
        return TRAINING_DTYPES[[dtype.value for dtype in TRAINING_DTYPES].index(text)]
    except ValueError:
        raise RequestError(f"--dtype {text!r}: must be one of any, {', '.join(TRAINING_DTYPES)}") from None


def _assumed(asked: SearchRequest, model: ModelSpec, job: Job, rates: Mapping[str, Rates | str]) -> list[str]:
    found = [f"price of {chip}: {r.source}" for chip, r in rates.items() if not isinstance(r, str) and r.assumed]
    if asked.batch_size is None and asked.batch_tokens is None:
        found.append(f"batch of {job.global_batch} sequences: {RULE}")
    if asked.seq_len is None:
        found.append(f"sequences of {job.seq_len} tokens")
    if asked.params is not None:
        found.append(f"the shape: Llama 3's proportions, {model.n_layers} layers of width {model.d_model}")
    running = job.running
    found.append(
        f"a failure of one chip every {show_seconds(running.mtbf_chip_s)}, evaluation "
        f"{show_frac(running.evaluation_frac)} of the training time, pauses {show_frac(running.pauses_frac)}"
    )
    found.append(
        "intervals: how far the hours of published runs ended from such forecasts; prices are taken as they are"
    )
    return found
