"""A found way to serve as command lines: in vLLM's own spelling, one for each pool; and ours, for its whole bill.

Ref: vLLM's engine arguments and its NixlConnector guide, docs.vllm.ai. ``--quantization fp8`` quantises 16-bit weights
as they are loaded; other formats come with the checkpoint, and vLLM reads them from its ``config.json``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from twobills.plan.serving_found import FoundServing, Spread
from twobills.plan.steady import MOST_STEP_TOKENS, USABLE_FRAC
from twobills.specs.load import Load

PLACEHOLDER = "$MODEL"
"""Where only a catalogue name is known: a checkpoint's folder or its name on a hub goes here."""
CHECKPOINTS = {"w8a8": "8-bit integers (compressed-tensors)", "nvfp4": "NVFP4", "int4_g128": "4 bits (AWQ or GPTQ)"}


def serve_commands(model: str, way: FoundServing, load: Load) -> list[str]:
    """One line for each kind of instance, the pool that reads prompts first."""
    most = way.batch if load.requests_per_s is None else way.most_running
    if way.reading is None:
        return [_command(model, way, way.spread, most, load, None)]
    return [
        _command(model, way, way.reading, way.prompts, load, "kv_producer"),
        _command(model, way, way.spread, most, load, "kv_consumer"),
    ]


def plan_command(model: str, way: FoundServing, load: Load, flags: Mapping[str, object]) -> str:
    """The way as the command that makes its whole bill: input, cached and output tokens, waits, energy.

    Without a rate of requests, as many clients as its rate keeps waiting (Little's law). ``flags`` go with it; None is
    left out.
    """
    clients = way.requests_per_s * way.request_s.value
    reading = way.reading
    given: dict[str, object] = {
        "chips": f"{way.offer.cluster.chip.name}:{way.n_chips}",
        "prompt-tokens": f"{load.prompt_tokens:g}",
        "answer-tokens": f"{load.answer_tokens:g}",
        "cached": f"{load.cached_frac:g}" if load.cached_frac else None,
        "requests-per-s": None if load.requests_per_s is None else f"{load.requests_per_s:g}",
        "concurrency": max(1, math.floor(clients)) if load.requests_per_s is None else None,
        "weights": way.weights.name,
        "kv": way.kv.name,
        "tp": way.spread.tp,
        "pp": way.spread.pp,
        "ep": way.spread.ep if way.spread.ep > 1 else None,
        "dp": way.spread.dp if way.spread.dp > 1 else None,
        "instances": way.n_instances,
        "prefill-tp": reading.tp if reading else None,
        "prefill-pp": reading.pp if reading else None,
        "prefill-ep": reading.ep if reading and reading.ep > 1 else None,
        "prefill-dp": reading.dp if reading and reading.dp > 1 else None,
        "prefill-prompts": way.prompts // reading.dp if reading else None,
        "prefill-instances": way.n_reading if reading else None,
        **flags,
    }
    words = [f"--{name} {value}" for name, value in given.items() if value is not None]
    return " ".join(["twobills plan inference", model, *words, *(["--disaggregated"] if reading else [])])


def serve_notes(model: str, way: FoundServing) -> list[str]:
    """What the command lines cannot say."""
    notes = []
    if model == PLACEHOLDER:
        notes.append("MODEL is the checkpoint's folder or its name on a hub")
    if way.weights.name in CHECKPOINTS:
        notes.append(f"the checkpoint must be in {CHECKPOINTS[way.weights.name]}")
    if way.reading is not None:
        notes.append(f"start {way.n_reading} of the first and {way.n_instances} of the second, behind vLLM's proxy")
    elif way.n_instances > 1:
        notes.append(f"start {way.n_instances} of it, behind a load balancer")
    return notes


def _command(model: str, way: FoundServing, spread: Spread, most: int, load: Load, role: str | None) -> str:
    words = ["vllm serve", model, f"--tensor-parallel-size {spread.tp}"]
    if spread.pp > 1:
        words.append(f"--pipeline-parallel-size {spread.pp}")
    if spread.dp > 1:
        words.append(f"--data-parallel-size {spread.dp}")
    if spread.ep > 1:
        words.append("--enable-expert-parallel")
    if way.weights.name == "fp8":
        words.append("--quantization fp8")
    if way.kv.name == "fp8":
        words.append("--kv-cache-dtype fp8")
    words += [
        f"--max-model-len {math.ceil(load.prompt_tokens + load.answer_tokens)}",
        f"--max-num-seqs {max(1, most // spread.dp)}",
        f"--max-num-batched-tokens {_step_tokens(load, most // spread.dp, role)}",
        f"--gpu-memory-utilization {USABLE_FRAC:g}",
    ]
    if role is not None:
        words.append(f"""--kv-transfer-config '{{"kv_connector":"NixlConnector","kv_role":"{role}"}}'""")
    return " ".join(words)


def _step_tokens(load: Load, most: int, role: str | None) -> int:
    """A step's tokens: what engines are usually set to, or all the prompts that are to be read at once."""
    at_once = math.ceil(load.prompt_tokens) * (most if role == "kv_producer" else 1)
    return max(MOST_STEP_TOKENS, at_once)
