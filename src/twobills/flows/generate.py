"""One answer from a frozen model, piece by piece, without a server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from twobills.errors import RequestError
from twobills.flows.machine import find_machine
from twobills.flows.serving_job import load_engine
from twobills.serving.request import SamplingParams


def generate_text(folder: Path, prompt: str, *, max_tokens: int, temperature: float, seed: int) -> Iterator[str]:
    """Pieces of text as they come. Raises RequestError for an empty prompt, ModelFolderError for a bad folder."""
    engine = load_engine(folder, find_machine(), None)
    tokenizer = Tokenizer.from_file(str(engine.loaded.tokenizer_path))
    prompt_ids = tokenizer.encode(prompt).ids
    if not prompt_ids:
        raise RequestError("prompt: is empty; give the text to go on from")
    params = SamplingParams(max_tokens=max_tokens, temperature=temperature, seed=seed)
    stream = DecodeStream(skip_special_tokens=True)
    for token_id in engine.generate(prompt_ids, params):
        if piece := stream.step(tokenizer, token_id):
            yield piece
