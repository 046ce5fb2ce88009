"""``twobills generate``: one answer on the screen."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from twobills.cli.options import AsJson, ChipHourPrice, LedgerPath
from twobills.cli.runtime import restart_with_settings


def generate(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A model folder in Hugging Face's form.")],
    prompt: Annotated[str, typer.Argument(help="The text to go on from; of a model of images: a class.")],
    ledger: LedgerPath,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens to generate at most (64; of a model of images: one image).")
    ] = None,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 always takes the likeliest token.")] = 0.7,
    seed: Annotated[int, typer.Option(help="Same seed, same answer.")] = 0,
    out: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Where a model of images draws.")] = None,
    usd_per_chip_hour: ChipHourPrice = None,
    as_json: AsJson = False,
) -> None:
    """Go on from a prompt with a frozen model, and say on stderr what that cost."""
    restart_with_settings()
    from twobills.cli.screen import err, print_json
    from twobills.flows import generate as flow
    from twobills.ledger.store import Ledger
    from twobills.units import show_usd

    asked = flow.GenerateRequest(
        folder=folder,
        prompt=prompt,
        max_tokens=max_tokens,
        temperature=temperature,
        seed=seed,
        usd_per_chip_hour=usd_per_chip_hour,
        out=out,
    )
    document = flow.generate(asked, Ledger(ledger), lambda piece: None if as_json else print(piece, end="", flush=True))
    if as_json:
        print_json(document)
        return
    if "image" in document:
        _show_image(document)
    print()
    cost = show_usd(document["bill"]["total_usd"])
    err.print(f"{document['completion_tokens']} tokens, {cost} with loading the model; run {document['run_id']}")


def _show_image(document: dict[str, Any]) -> None:
    """The picture in characters, or where it was written; an answer that is none as it is."""
    from twobills.report.picture import characters

    image = document["image"]
    if image is None:
        print(f"{document['text']}\n{document['image_reason']}", end="")
    elif image["file"]:
        print(image["file"], end="")
    else:
        print(characters(image["levels"], image["n_levels"]), end="")
