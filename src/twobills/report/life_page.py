"""The page of a plan of both bills: self-contained HTML that opens with no network, from the plan's document alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from twobills.report import life_sentences as sentences
from twobills.report import life_tables as tables
from twobills.report.figures.life import life_figure, tornado_figure
from twobills.report.figures.style import FONT_FAMILY, PALETTE
from twobills.report.page import Head, Part, Section
from twobills.report.tables import STAMPS, Table, life_table
from twobills.units import show_count, show_usd
from twobills.usage import Job

Document = Mapping[str, Any]


def life_page(document: Document, *, version: str, date: str) -> str:
    """The HTML of a plan; ``date`` in words."""
    environment = Environment(
        loader=PackageLoader("twobills.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("life.html.j2").render(
        model_name=document["model"]["name"],
        about=_about(document),
        date=date,
        version=version,
        bills=[_training_head(document), _inference_head(document)],
        sections=_sections(document),
        stamps=STAMPS,
        n_samples=f"{document['life']['n_samples']:,}",
        doubts_traffic=document["plan"].get("traffic_factor", 1) > 1,
        palette={
            tone: Markup(" ".join(f"--tb-{name}: {getattr(shade, tone)};" for name, shade in PALETTE.items()))
            for tone in ("light", "dark")
        },
        font_family=Markup(FONT_FAMILY),
    )


def _sections(document: Document) -> list[Section]:
    life = document["life"]
    tornado = tornado_figure(life)
    split = [tables.split_table(document)] if life["split"] else []
    return [
        Section(
            "When the second overtakes the first",
            parts=[Part(sentences.life_sentence(document), [Markup(life_figure(life))], [tables.both_table(document)])],
        ),
        Section(
            "What it hangs on",
            parts=[
                Part(
                    sentences.assumptions_sentence(document),
                    [Markup(tornado)] if tornado else [],
                    [tables.tornado_table(document)],
                )
            ],
        ),
        Section("What a little off each answer is worth", parts=[Part(sentences.shave_sentence(document))]),
        Section(
            "How it is served",
            parts=[
                Part(f"On {sentences.machines_words(document)}.", tables=[tables.serving_table(document)]),
                Part(sentences.traffic_sentence(document), tables=[life_table(life["demands"])]),
            ],
        ),
        Section("Who gets each dollar", parts=[Part(sentences.split_sentence(document), tables=split)]),
        Section("What is assumed", parts=[_assumed(document)]),
    ]


def _training_head(document: Document) -> Head:
    usd, chip = document["life"]["training_usd"], document["chip"]
    times = document["life"]["n_versions"]
    name = "Training, paid once" if times == 1 else f"Training, paid {times} times"
    note = f"{_likely(usd)}, on {chip['n_chips']:,} x {chip['name']}"
    return Head(Job.TRAINING.value, name, show_usd(usd["value"]), note, {"predicted": "predicted"})


def _inference_head(document: Document) -> Head:
    life = document["life"]
    usd = life["inference_usd"]
    note = f"{_likely(usd)}, {show_count(life['n_requests']['value'])} answers"
    name = f"Inference, {life['years']:g} years"
    return Head(Job.INFERENCE.value, name, show_usd(usd["value"]), note, {"predicted": "predicted"})


def _assumed(document: Document) -> Part:
    rows = [tuple(line.partition(": ")[::2]) if ": " in line else ("life", line) for line in document["assumed"]]
    return Part(
        f"{len(rows)} things are assumed rather than measured, sourced or given.",
        tables=[Table("Assumed", ("Of", "What"), rows, n_text_columns=2)],
    )


def _likely(interval: Document) -> str:
    return f"likely {show_usd(interval['p5'])} to {show_usd(interval['p95'])}"


def _about(document: Document) -> str:
    plan = document["plan"]
    return f"{show_count(document['model']['n_params'])} parameters, trained on {plan['tokens']} tokens"
