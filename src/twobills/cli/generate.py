"""``twobills generate``: one answer on the screen."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twobills.cli.runtime import restart_with_settings


def generate(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A model folder in Hugging Face's form.")],
    prompt: Annotated[str, typer.Argument(help="The text to go on from.")],
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens to generate at most.")] = 64,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 always takes the likeliest token.")] = 0.7,
    seed: Annotated[int, typer.Option(help="Same seed, same answer.")] = 0,
) -> None:
    """Go on from a prompt with a frozen model."""
    restart_with_settings()
    from twobills.flows.generate import generate_text

    for piece in generate_text(folder, prompt, max_tokens=max_tokens, temperature=temperature, seed=seed):
        print(piece, end="", flush=True)
    print()
