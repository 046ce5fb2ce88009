"""Images through both jobs: trained, frozen, asked for by class, drawn over HTTP, and on two bills."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread

from tests.flows.folder_of_images import write_images
from twobills.errors import DataError, RequestError
from twobills.flows import planned_job
from twobills.flows.accounts import account
from twobills.flows.generate import GenerateRequest, generate
from twobills.flows.image_data import MOST_EPOCHS, image_codec
from twobills.flows.job_data import job_corpus
from twobills.flows.listener import Listener
from twobills.flows.machine import MeasuredMachine
from twobills.flows.planned_job import plan_job, planned_job_to_json
from twobills.flows.training_job import run_job
from twobills.ledger.store import Ledger
from twobills.specs.data import DataSpec, Modality, SourceSpec
from twobills.specs.job import TrainingJob
from twobills.usage import Job, Phase

SHAPE = {"n_layers": 1, "d_model": 32, "n_heads": 1, "n_kv_heads": 1, "d_ff": 64}


def image_job(tmp_path: Path, *, classes: tuple[str, ...], **change: Any) -> TrainingJob:
    write_images(tmp_path / "pictures", n=60, classes=classes)
    data = DataSpec(sources=(SourceSpec(path=tmp_path / "pictures"),), modality=Modality.IMAGES, levels=8)
    return TrainingJob(out=tmp_path / "model", data=data, **{"model": SHAPE, "steps": 100, **change})


def test_a_folder_of_images_is_trained_classified_and_drawn(
    tmp_path: Path, measured: MeasuredMachine, ledger: Ledger
) -> None:
    job = image_job(tmp_path, classes=("dark", "very bright"))
    planned = plan_job(job, job_corpus(job), measured)
    with account(ledger, "train", {}) as run_id:
        ledger.plan(run_id, planned.plan.bill, planned_job_to_json(planned))
        trained = run_job(planned.task(), ledger, run_id, Listener())
    assert trained.quality["heldout_accuracy"] == 1.0  # no level is of both classes
    assert 1.9 < trained.quality["heldout_bits_per_pixel"] < 2.4  # four equally likely levels: two bits
    assert trained.data["classes"] == ["dark", "very bright"]
    assert trained.training["epochs"] == pytest.approx(100 * 8 / (60 - trained.data["n_heldout_documents"]))
    bills = ledger.planned_bills(run_id)[Job.TRAINING], ledger.measured_bills(run_id)[Job.TRAINING]
    foreseen, read = (bill.usage.phases[Phase.EVALUATE] for bill in bills)
    assert foreseen.tokens == read.tokens == 2 * trained.data["n_heldout_tokens"]
    answers = [
        generate(
            GenerateRequest(
                folder=job.out, prompt=prompt, max_tokens=20, temperature=0.5, seed=0, usd_per_chip_hour=None
            ),
            ledger,
            lambda _: None,
        )
        for prompt in ("<class dark>", "<class very bright>")
    ]
    codec = image_codec(job_corpus(job))  # type: ignore[arg-type]
    dark, bright = (codec.read(answer["text"]) for answer in answers)
    assert dark is not None
    assert bright is not None
    assert dark.max() < 4 <= bright.min()
    assert [answer["completion_tokens"] for answer in answers] == [20, 20]
    asked = GenerateRequest(
        folder=job.out,
        prompt="dark",
        max_tokens=None,
        temperature=0.5,
        seed=0,
        usd_per_chip_hour=None,
        out=tmp_path / "dark.png",
    )
    heard: list[str] = []
    drawn = generate(asked, ledger, heard.append)
    assert not heard
    assert drawn["image"]["levels"] == dark.tolist(), "a class by its name, and one whole image"
    pixels = imread(tmp_path / "dark.png")
    height, width, _ = dark.shape
    n = pixels.shape[0] // height
    assert pixels[::n, ::n, 0] == pytest.approx(dark[:, :, 0] / 7, abs=1 / 255)
    assert pixels.shape[1] == n * width
    half = generate(replace(asked, max_tokens=3, out=None), ledger, heard.append)
    assert half["image"] is None
    assert "20 pixels" in half["image_reason"]
    for out, message in (("dark.jpg", "must end in .png"), ("nowhere/dark.png", "its folder must be there")):
        with pytest.raises(RequestError, match=message):
            generate(replace(asked, out=tmp_path / out), ledger, heard.append)
    with pytest.raises(RequestError, match="'cat' is none of this model's 11 words"):
        generate(
            GenerateRequest(folder=job.out, prompt="cat", max_tokens=2, temperature=0, seed=0, usd_per_chip_hour=None),
            ledger,
            lambda _: None,
        )


def test_one_class_is_modelled_and_not_classified(tmp_path: Path, measured: MeasuredMachine, ledger: Ledger) -> None:
    job = image_job(tmp_path, classes=("only",), steps=3)
    planned = plan_job(job, job_corpus(job), measured)
    with account(ledger, "train", {}) as run_id:
        trained = run_job(planned.task(), ledger, run_id, Listener())
    assert "heldout_accuracy" not in trained.quality
    assert trained.quality["classification"]["reason"] == "all images are of one class"


def test_minutes_end_after_enough_passes(
    tmp_path: Path, measured: MeasuredMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = image_job(tmp_path, classes=("dark", "bright"), steps=0, minutes=60.0, model={})
    corpus = job_corpus(job)
    planned = plan_job(job, corpus, measured)
    n_images = len(corpus.training.labels)  # type: ignore[union-attr]
    assert planned.plan.training.n_steps * 8 == pytest.approx(MOST_EPOCHS * n_images, abs=8)
    note = planned_job_to_json(planned)["note"]
    assert "Images get the shape d64-l4" in note
    assert f"ends after {MOST_EPOCHS} passes" in note
    assert planned.max_s == pytest.approx(planned_job.OVERTIME * 3600)
    monkeypatch.setattr("twobills.flows.image_data.MOST_EPOCHS", 10_000)
    assert plan_job(job, corpus, measured).plan.training.n_steps > planned.plan.training.n_steps


def test_images_that_are_none_are_one_line(tmp_path: Path) -> None:
    job = image_job(tmp_path, classes=("a", "b"))
    bad = tmp_path / "pictures" / "a" / "30.png"
    bad.write_bytes(bad.read_bytes()[:50])
    with pytest.raises(DataError, match=r"a/30.png: is not a whole PNG file"):
        job_corpus(job)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder and the document of one run of the main job."""
    root = tmp_path_factory.mktemp("run")
    write_images(root / "pictures", n=60, classes=("dark", "grey", "bright"))
    arguments = ["run", "--data", "pictures", "--modality", "images", "--minutes", "0.02", "--out", "out", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "twobills", *arguments],
        env={**os.environ, "TWOBILLS_LEDGER": str(root / "ledger.sqlite")},
        cwd=root,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return root, json.loads(done.stdout)


def test_the_main_job_draws_what_it_has_learnt(finished: tuple[Path, dict[str, Any]]) -> None:
    root, document = finished
    assert document["requests"]["ok"] == 300
    prefilled = document["bills"]["inference"]["measured"]["phases"]["prefill"]["tokens"]
    assert prefilled == document["requests"]["prompt_tokens"] == 2 * 300
    pictures = document["pictures"]
    assert [row["class"] for row in pictures["rows"]] == ["bright", "dark", "grey"]
    assert pictures["asked"] == 300
    assert document["samples"] == []
    assert document["quality"]["heldout_bits_per_pixel"] > 0
    assert document["quality"]["png_bits_per_pixel"] > 0
    assert "data:image/png;base64," in (root / "out" / "report.html").read_text()
    assert (root / "out" / "pictures.svg").read_text().startswith("<svg")
    for bill in document["bills"].values():
        gaps, difference = bill["gaps"], bill["measured"]["total_usd"] - bill["predicted"]["total_usd"]
        assert gaps["work_usd"] + gaps["speed_usd"] + gaps["price_usd"] == pytest.approx(difference)
