"""Both bills of a plan on the screen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twobills.cli.screen import print_json, print_table, say
from twobills.report import life_sentences as sentences
from twobills.report import life_tables as tables
from twobills.report.sentences import bill_sentence
from twobills.report.tables import bill_table, life_table
from twobills.report.training_sentences import assumed_sentence


def show_plan(document: Mapping[str, Any], *, as_json: bool) -> None:
    """One plan."""
    if as_json:
        print_json(document)
        return
    say(sentences.life_sentence(document))
    print_table(tables.both_table(document))
    for job, note in (("training", ""), ("inference", f" {sentences.a_day(document)}")):
        say(f"{bill_sentence(document[job]['bill'])}{note}")
        print_table(bill_table(document[job]["bill"], explain=False))
    say(sentences.assumptions_sentence(document))
    print_table(tables.tornado_table(document))
    say(sentences.shave_sentence(document))
    print_table(tables.serving_table(document))
    say(sentences.split_sentence(document))
    if document["life"]["split"]:
        print_table(tables.split_table(document))
    say(sentences.traffic_sentence(document))
    print_table(life_table(document["life"]["demands"]))
    say(assumed_sentence(document["assumed"]))


def show_difference(
    document: Mapping[str, Any], other: Mapping[str, Any], names: tuple[str, str], *, as_json: bool
) -> None:
    """Two plans, what was asked differently and what that moves."""
    if as_json:
        print_json({"schema": document["schema"], "plan": document, "other": other})
        return
    say(sentences.diff_sentence(document, other, names))
    table = tables.diff_table(document, other, names)
    if table.rows:
        print_table(table)
