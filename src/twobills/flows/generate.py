"""One answer from a frozen model, without a server, metered all the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers.decoders import DecodeStream

from twobills.errors import RequestError
from twobills.flows.accounts import account, readings
from twobills.flows.image_data import codec_of_model
from twobills.flows.machine import find_machine
from twobills.flows.serving_job import load_engine, start_meter
from twobills.jobs.data.raster import RasterCodec, class_token
from twobills.jobs.inference.prompts import encode_prompt
from twobills.ledger.store import Ledger
from twobills.money.bill import price
from twobills.report.picture import png
from twobills.serving.request import SamplingParams

ANSWER_TOKENS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateRequest:
    """What ``twobills generate`` was asked."""

    folder: Path
    prompt: str
    """The text to go on from; of a model of images the class that is wanted, by its name."""
    max_tokens: int | None
    """None: ``ANSWER_TOKENS``, or one whole image."""
    temperature: float
    seed: int
    usd_per_chip_hour: float | None
    out: Path | None = None
    """Where a model of images writes its picture, as PNG."""


def generate(asked: GenerateRequest, ledger: Ledger, on_text: Callable[[str], None]) -> dict[str, Any]:
    """Goes on from a prompt; ``on_text`` hears pieces as they come. Returns answer, usage and bill.

    A model of images draws, and nothing is heard: the answer's ``image`` holds the levels, None if it is not whole.
    Raises RequestError for an empty prompt or one that is too long, ModelFolderError for a bad folder.
    """
    if asked.out is not None:
        _check_writable(asked.out)
    found = find_machine(asked.usd_per_chip_hour)
    with account(ledger, "generate", {"folder": str(asked.folder)}) as run_id:
        meter = start_meter(found)
        with readings(ledger, run_id, meter, found.rates):
            engine = load_engine(asked.folder, found, meter)
            engine.rest()  # loading is waiting, not reading the prompt
            tokenizer = engine.loaded.tokenizer()
            codec = codec_of_model(engine.loaded.manifest)
            if asked.out is not None and codec is None:
                raise RequestError(f"--out {asked.out}: {asked.folder} is no model of images of ours; leave it out")
            named = codec is not None and asked.prompt in codec.classes
            prompt_ids = encode_prompt(tokenizer, class_token(asked.prompt) if named else asked.prompt)
            if not prompt_ids:
                raise RequestError("prompt: is empty; give the text to go on from")
            params = SamplingParams(
                max_tokens=asked.max_tokens or (codec.n_values if codec else ANSWER_TOKENS),
                temperature=asked.temperature,
                seed=asked.seed,
            )
            stream, pieces, n_tokens = DecodeStream(skip_special_tokens=True), [], 0
            for token_id in engine.generate(prompt_ids, params):
                n_tokens += 1
                if piece := stream.step(tokenizer, token_id):
                    pieces.append(piece)
                    if codec is None:
                        on_text(piece)
    return {
        "run_id": run_id,
        "text": "".join(pieces),
        "prompt_tokens": len(prompt_ids),
        "completion_tokens": n_tokens,
        "digest": engine.loaded.digest,
        "bill": price(meter.usage(), found.rates).to_json(),
        **(_drawn(codec, "".join(pieces), asked.out) if codec else {}),
    }


def _drawn(codec: RasterCodec, text: str, out: Path | None) -> dict[str, Any]:
    """The picture that an answer is, as plain JSON, and as a file if one is wanted."""
    levels = codec.read(text)
    if levels is None:
        return {"image": None, "image_reason": f"the answer is not {codec.n_values} pixels' values; ask for as many"}
    if out is not None:
        try:
            out.write_bytes(png(levels, codec.n_levels))
        except OSError as error:
            raise RequestError(f"--out {out}: cannot be written ({error.strerror})") from None
    return {"image": {"levels": levels.tolist(), "n_levels": codec.n_levels, "file": out and str(out)}}


def _check_writable(out: Path) -> None:
    if out.suffix.lower() != ".png":
        raise RequestError(f"--out {out}: must end in .png")
    if out.is_dir() or not out.parent.is_dir():
        raise RequestError(f"--out {out}: cannot be written (its folder must be there, and it must be a file)")
