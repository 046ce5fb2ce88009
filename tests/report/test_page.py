"""The page: self-contained, well-formed, escaped, complete, and alive where the document has gaps."""

from __future__ import annotations

import html
import re
from collections import Counter
from html.parser import HTMLParser

import pytest

from tests.report.run_document import make_document
from twobills.report import sentences, tables
from twobills.report.page import run_page

VOID = {"meta", "br", "hr", "img", "link", "input"}
HOSTILE = "</pre><script>alert('x')</script><img src=http://evil.example/x onerror=1>{{ 7 * 7 }}&amp;"


class Reader(HTMLParser):
    """Checks that tags are balanced; keeps tags, attributes and the text that a reader sees."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def values(reader: Reader, name: str) -> list[str]:
    return [value for key, value in reader.attributes if key == name]


def test_the_page_is_balanced_and_has_its_figures() -> None:
    reader = Reader(run_page(make_document()))
    assert not reader.open
    assert reader.tags["svg"] == 7
    assert reader.tags["main"] == 1


def test_the_page_fetches_nothing() -> None:
    page = run_page(make_document())
    reader = Reader(page)
    assert not {"script", "link", "img", "iframe", "object", "embed"} & set(reader.tags)
    assert not values(reader, "src")
    assert all(link.startswith("#") for link in values(reader, "href") + values(reader, "xlink:href"))
    assert "@import" not in page
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", page))


def test_ids_are_unique_on_the_page() -> None:
    ids = values(Reader(run_page(make_document())), "id")
    assert ids
    assert len(ids) == len(set(ids))


def test_the_same_document_gives_the_same_page() -> None:
    assert run_page(make_document()) == run_page(make_document())


def test_every_cell_and_every_sentence_is_on_the_page() -> None:
    document = make_document()
    text = html.unescape(run_page(document))
    shown = [tables.life_table(document["life"]), tables.provenance_table(document["provenance"])]
    for job, bill in document["bills"].items():
        shown += [tables.bill_table(bill["measured"], bill["predicted"]), tables.gap_table(job, bill["gaps"])]
        assert sentences.bill_sentence(bill["measured"]) in text
        assert sentences.gap_sentence(job, bill["gaps"], bill["predicted_interval"]) in text
    missing = [cell for table in shown for row in table.rows for cell in row if f">{cell}<" not in text]
    assert not missing
    assert sentences.life_sentence(document["life"]) in text


def test_stamps_are_badges() -> None:
    classes = set(values(Reader(run_page(make_document())), "class"))
    assert {f"badge badge-{stamp}" for stamp in ("measured", "assumed", "declared", "sourced")} <= classes


@pytest.mark.parametrize("place", ["prompt", "completion", "data", "model", "source"])
def test_hostile_text_stays_text(place: str) -> None:
    document = make_document()
    if place in ("prompt", "completion"):
        document["samples"][0][place] = HOSTILE
    elif place == "source":
        document["provenance"][0]["source"] = HOSTILE
    else:
        document[place]["name"] = HOSTILE
    page = run_page(document)
    reader = Reader(page)
    assert not {"script", "img"} & set(reader.tags)
    assert not values(reader, "onerror")
    assert HOSTILE in "".join(reader.words)


def test_a_completion_keeps_its_white_space() -> None:
    document = make_document()
    document["samples"] = [{"prompt": "\n\n  a", "completion": "\n\tb  \n"}]
    assert "\n\n  a</span>\n\tb  \n</pre>" in run_page(document)


@pytest.mark.parametrize("job", ["training", "inference"])
def test_a_bill_that_does_not_exist_is_said_in_words(job: str) -> None:
    document = make_document()
    document["bills"][job] = None
    assert f"There is no {job} bill: not measured." in html.unescape(run_page(document))


def test_a_bill_without_a_plan_gives_its_reason() -> None:
    document = make_document()
    nothing = {"predicted": None, "predicted_interval": None, "gaps": None, "reason": "the plan was lost"}
    document["bills"]["inference"].update(nothing)
    assert "cannot be held against a plan: the plan was lost." in run_page(document)


def test_a_document_of_which_much_is_null() -> None:
    document = make_document()
    document.update(life=[], samples=[], provenance=[], quality=None, requests=None, usd_per_request=None)
    document["training"].update(curve=[], mfu=None)
    document["plan"].update(sizes=[], law=None, inference=None)
    document["model"].update(digest_before_serving=None, digest_after_serving=None)
    page = run_page(document)
    assert not Reader(page).open
    assert "not measured" in page
    assert ">None<" not in page
    assert "nan" not in page


def test_a_run_that_cost_nothing() -> None:
    document = make_document(measured_factor=0.0)
    assert "it came to nothing" in run_page(document)
