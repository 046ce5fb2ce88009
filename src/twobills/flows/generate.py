"""One answer from a frozen model, without a server, metered all the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers.decoders import DecodeStream

from twobills.errors import RequestError
from twobills.flows.accounts import account, readings
from twobills.flows.machine import find_machine
from twobills.flows.serving_job import load_engine, start_meter
from twobills.jobs.inference.prompts import encode_prompt
from twobills.ledger.store import Ledger
from twobills.money.bill import price
from twobills.serving.request import SamplingParams


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateRequest:
    """What ``twobills generate`` was asked."""

    folder: Path
    prompt: str
    max_tokens: int
    temperature: float
    seed: int
    usd_per_chip_hour: float | None


def generate(asked: GenerateRequest, ledger: Ledger, on_text: Callable[[str], None]) -> dict[str, Any]:
    """Goes on from a prompt; ``on_text`` hears pieces as they come. Returns answer, usage and bill.

    Raises RequestError for an empty prompt or one that is too long, ModelFolderError for a bad folder.
    """
    found = find_machine(asked.usd_per_chip_hour)
    with account(ledger, "generate", {"folder": str(asked.folder)}) as run_id:
        meter = start_meter(found)
        with readings(ledger, run_id, meter, found.rates):
            engine = load_engine(asked.folder, found, meter)
            engine.rest()  # loading is waiting, not reading the prompt
            tokenizer = engine.loaded.tokenizer()
            prompt_ids = encode_prompt(tokenizer, asked.prompt)
            if not prompt_ids:
                raise RequestError("prompt: is empty; give the text to go on from")
            params = SamplingParams(max_tokens=asked.max_tokens, temperature=asked.temperature, seed=asked.seed)
            stream, pieces, n_tokens = DecodeStream(skip_special_tokens=True), [], 0
            for token_id in engine.generate(prompt_ids, params):
                n_tokens += 1
                if piece := stream.step(tokenizer, token_id):
                    pieces.append(piece)
                    on_text(piece)
    return {
        "run_id": run_id,
        "text": "".join(pieces),
        "prompt_tokens": len(prompt_ids),
        "completion_tokens": n_tokens,
        "digest": engine.loaded.digest,
        "bill": price(meter.usage(), found.rates).to_json(),
    }
