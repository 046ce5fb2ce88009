"""The report of a run as one HTML page that opens with no network, from the run's JSON document alone.

Every figure and table stands under one plain sentence. What does not exist in the document (``null``) is left
out of the figures and said in words. Strings from the data (samples, names) are escaped; the only markup let
through is our own SVG. No script, no link, no outside font.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from twobills.report import sentences, tables
from twobills.report.figures.bills import bill_figure
from twobills.report.figures.crossover import crossover_figure
from twobills.report.figures.loss import loss_figure, quality_figure
from twobills.report.figures.pictures import pictures_figure
from twobills.report.figures.style import FONT_FAMILY, PALETTE
from twobills.report.figures.waterfall import waterfall_figure
from twobills.report.tables import Table
from twobills.units import show_usd
from twobills.usage import Job

Document = Mapping[str, Any]


class Part(NamedTuple):
    """A sentence and what it is about."""

    sentence: str
    figures: Sequence[Markup] = ()
    tables: Sequence[Table] = ()


class Section(NamedTuple):
    """A heading, two parts side by side where there is room, and the others below."""

    title: str
    sides: Sequence[Part] = ()
    parts: Sequence[Part] = ()


class Head(NamedTuple):
    """One bill's amount at the top of the page."""

    job: str
    name: str
    amount: str
    note: str
    stamps: Mapping[str, str]
    """Words of each badge, and the stamp that they are."""


def run_page(document: Document) -> str:
    """The self-contained HTML report of ``twobills run``."""
    environment = Environment(
        loader=PackageLoader("twobills.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("run.html.j2").render(
        model_name=document["model"]["name"],
        data_name=document["data"]["name"],
        date=_readable_date(document["date"]),
        bills=[_head(job.value, document) for job in Job],
        sections=_sections(document),
        samples=document["samples"],
        pictures=document.get("pictures"),
        samples_sentence=sentences.samples_sentence(document["samples"]),
        stamps=tables.STAMPS,
        palette={tone: Markup(_variables(tone)) for tone in ("light", "dark")},
        font_family=Markup(FONT_FAMILY),
        **{key: document[key] for key in ("run_id", "version", "ledger", "out")},
    )


def _sections(document: Document) -> list[Section]:
    bills = {job.value: document["bills"].get(job.value) for job in Job}
    return [
        Section(
            "The two bills",
            sides=[_bill_part(job, bill) for job, bill in bills.items()],
            parts=[_bill_lines_part(bill) for bill in bills.values() if bill and bill["measured"]],
        ),
        Section(
            "From the plan to the meter",
            sides=[_gap_part(job, bill) for job, bill in bills.items()],
            parts=[_gap_lines_part(bills), _plan_part(document)],
        ),
        Section("Where the second bill overtakes the first", parts=[_life_part(document, bills["training"])]),
        Section("What the model learnt", sides=_learning_sides(document), parts=_learning_parts(document)),
        Section("How it answered", parts=[_requests_part(document), *_picture_parts(document)]),
        Section("Where the numbers come from", parts=_provenance_parts(document)),
    ]


def _head(job: str, document: Document) -> Head:
    name = "Training, paid once" if job == Job.TRAINING else "Inference, paid for every answer"
    bill = document["bills"].get(job)
    if not bill or not bill["measured"]:
        return Head(job, name, tables.ABSENT, _reason(bill), {})
    interval = bill["predicted_interval"]
    note = f"planned {show_usd(interval['p5'])} to {show_usd(interval['p95'])}" if interval else "no plan"
    if job == Job.INFERENCE and document["requests"]:
        note = f"{document['requests']['ok']:,} answers, {note}"
    stamps = {"measured": "measured"}
    if bill["measured"]["rates"]["assumed"]:
        stamps["price assumed"] = "assumed"
    return Head(job, name, show_usd(bill["measured"]["total_usd"]), note, stamps)


def _bill_part(job: str, bill: Document | None) -> Part:
    if not bill or not bill["measured"]:
        return Part(f"There is no {job} bill: {_reason(bill)}.")
    return Part(sentences.bill_sentence(bill["measured"]), [Markup(bill_figure(bill))])


def _bill_lines_part(bill: Document) -> Part:
    table = tables.bill_table(bill["measured"], bill["predicted"])
    return Part(sentences.bill_lines_sentence(bill["measured"]), tables=[table])


def _gap_part(job: str, bill: Document | None) -> Part:
    if not bill or not bill["gaps"]:
        return Part(f"The {job} bill cannot be held against a plan: {_reason(bill)}.")
    sentence = sentences.gap_sentence(job, bill["gaps"], bill["predicted_interval"])
    return Part(sentence, [Markup(waterfall_figure(job, bill["gaps"]))])


def _gap_lines_part(bills: Mapping[str, Document | None]) -> Part:
    shown = [tables.gap_table(job, bill["gaps"]) for job, bill in bills.items() if bill and bill["gaps"]]
    return Part(sentences.gap_lines_sentence(), tables=shown)


def _plan_part(document: Document) -> Part:
    return Part(sentences.plan_sentence(document["plan"]), tables=[tables.plan_table(document["plan"])])


def _life_part(document: Document, training: Document | None) -> Part:
    points = document["life"] or []
    paid = training["measured"]["total_usd"] if training and training["measured"] else 0.0
    return Part(
        sentences.life_sentence(points),
        _drawn(crossover_figure(paid, points)),
        [tables.life_table(points)] if points else [],
    )


def _learning_sides(document: Document) -> list[Part]:
    curve, quality = document["training"]["curve"] or [], document["quality"] or {}
    return [
        Part(sentences.loss_sentence(curve), _drawn(loss_figure(curve))),
        Part(sentences.quality_sentence(quality), _drawn(quality_figure(quality))),
    ]


def _learning_parts(document: Document) -> list[Part]:
    plan = document["plan"]
    parts = [Part(sentences.model_sentence(document), tables=[tables.model_table(document)])]
    if plan.get("note"):
        parts.append(Part(plan["note"]))
    if plan.get("sizes"):
        words = sentences.sizes_sentence(plan["sizes"], plan.get("law"))
        parts.append(Part(words, tables=[tables.sizes_table(plan["sizes"])]))
    return parts


def _drawn(svg: str | None) -> list[Markup]:
    return [Markup(svg)] if svg else []


def _requests_part(document: Document) -> Part:
    requests = document["requests"]
    if not requests:
        return Part("No requests were sent.")
    sentence = sentences.requests_sentence(requests, document["usd_per_request"])
    return Part(sentence, tables=[tables.requests_table(requests)])


def _picture_parts(document: Document) -> list[Part]:
    pictures = document.get("pictures")
    drawn = _drawn(pictures_figure(pictures))
    return [Part(sentences.pictures_sentence(pictures), drawn)] if pictures and drawn else []


def _provenance_parts(document: Document) -> list[Part]:
    facts, machine = document["provenance"], document["machine"]
    return [
        Part(sentences.machine_sentence(machine), tables=[tables.machine_table(machine)]),
        Part(sentences.provenance_sentence(facts), tables=[tables.provenance_table(facts)]),
    ]


def _reason(bill: Document | None) -> str:
    return str((bill or {}).get("reason") or tables.ABSENT)


def _readable_date(text: str) -> str:
    return f"{datetime.fromisoformat(text):%d %B %Y, %H:%M %Z}".strip().lstrip("0")


def _variables(tone: str) -> str:
    return " ".join(f"--tb-{name}: {getattr(shade, tone)};" for name, shade in PALETTE.items())
