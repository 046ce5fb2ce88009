"""Images in the two jobs: what they get instead of text's defaults, and what their pictures show."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.flows.folder_of_images import write_images
from twobills.errors import RequestError
from twobills.flows import image_data
from twobills.flows.image_data import beside_images, image_codec, image_prompts, image_workload, pictures
from twobills.flows.job_data import fitted_job, foreseen_epochs, heldout_tokens, job_batches, job_corpus, prepare_tokens
from twobills.flows.listener import Listener
from twobills.jobs.data.images import ImageCorpus
from twobills.specs.data import DataSpec, Modality, SourceSpec
from twobills.specs.dtype import DType
from twobills.specs.job import TrainingJob
from twobills.specs.training import TrainingSpec


@pytest.fixture
def job(tmp_path: Path) -> TrainingJob:
    write_images(tmp_path / "pictures", n=30, classes=("dark", "bright"))
    data = DataSpec(sources=(SourceSpec(path=tmp_path / "pictures"),), modality=Modality.IMAGES, levels=4)
    return TrainingJob(out=tmp_path / "out", data=data)


@pytest.fixture
def corpus(job: TrainingJob) -> ImageCorpus:
    found = job_corpus(job)
    assert isinstance(found, ImageCorpus)
    return found


def test_a_window_is_an_image_and_the_shape_is_stated(job: TrainingJob, corpus: ImageCorpus) -> None:
    fitted = fitted_job(job, corpus)
    assert fitted.seq_len == 2 + 4 * 5
    assert fitted.vocab_size == 1 + 2 + 4
    assert fitted.model == image_data.IMAGE_SHAPE
    own = {**image_data.IMAGE_SHAPE, "n_layers": 2}
    assert fitted_job(replace(job, model=own), corpus).model == own
    assert fitted_job(fitted, corpus) == fitted
    with pytest.raises(RequestError, match="seq_len=64: a window is one whole image, 22 tokens; leave it out"):
        job_corpus(replace(job, seq_len=64))


def test_steps_need_no_shape_of_images(job: TrainingJob) -> None:
    assert replace(job, steps=5).length == "5 steps"


def test_the_tokens_are_the_images_in_windows(job: TrainingJob, corpus: ImageCorpus) -> None:
    fitted, codec = fitted_job(job, corpus), image_codec(corpus)
    tokens = prepare_tokens(fitted, corpus, Listener())
    assert tokens.n_training_tokens == len(corpus.training.labels) * codec.window
    assert tokens.n_bytes == corpus.training.levels.nbytes
    spec = TrainingSpec(n_steps=1, batch_size=8, seq_len=fitted.seq_len, dtype=DType.FP32, heldout_tokens=0)
    batch = job_batches(fitted, spec, tokens)[0]
    known = {tuple(window) for window in codec.tokens(corpus.training.levels, corpus.training.labels).tolist()}
    assert {tuple(row) for row in batch.inputs.tolist()} <= known
    assert prepare_tokens(fitted, corpus, Listener()).digest == tokens.digest
    fewer = corpus._replace(training=corpus.training.take(np.arange(5)))
    assert prepare_tokens(fitted, fewer, Listener()).digest != tokens.digest


def test_every_image_is_read_under_every_class(job: TrainingJob, corpus: ImageCorpus) -> None:
    fitted = fitted_job(job, corpus)
    assert heldout_tokens(fitted, corpus) == len(corpus.heldout.labels) * 2 * fitted.seq_len
    (source,) = foreseen_epochs(fitted, corpus, 3 * len(corpus.training.labels) * fitted.seq_len)
    assert source["epochs"] == pytest.approx(3)


def test_what_guessing_would_get(corpus: ImageCorpus) -> None:
    beside = beside_images(corpus)
    of_class = np.bincount(corpus.heldout.labels)
    assert beside["classification"]["commonest_frac"] == pytest.approx(of_class.max() / of_class.sum())
    assert beside["png_bits_per_pixel"] > 0
    alike = corpus._replace(
        classes=("image",), heldout=corpus.heldout._replace(labels=np.zeros_like(corpus.heldout.labels))
    )
    assert beside_images(alike)["classification"]["reason"] == "all images are of one class"


def test_requests_ask_for_each_class_in_turn(corpus: ImageCorpus) -> None:
    workload = image_workload(corpus)
    assert workload.prompt_tokens == len(image_codec(corpus).tokenizer.encode("<class dark>").ids)
    assert workload.answer_tokens == 20
    assert workload.n_requests == image_data.MOST_REQUESTS
    assert image_prompts(corpus, workload)[:3] == ["<class bright>", "<class dark>", "<class bright>"]
    large = corpus._replace(training=corpus.training._replace(levels=np.zeros((1, 60, 60, 1), np.uint8)))
    assert image_workload(large).n_requests == image_data.ASKED_TOKENS // 3600


def test_answers_become_pictures_of_their_class(corpus: ImageCorpus) -> None:
    codec = image_codec(corpus)
    levels = np.arange(4 * 20, dtype=np.uint8).reshape(4, 4, 5, 1) % 4
    windows = codec.tokens(levels, np.zeros(4, np.int64))[:, 2:]
    answers: list[str | None] = [codec.tokenizer.decode(window.tolist()) for window in windows]
    found = pictures(corpus, [*answers, "<p0>", None])
    assert (found["asked"], found["whole"]) == (6, 4)
    bright, dark = found["rows"]
    assert (bright["class"], dark["class"]) == ("bright", "dark")
    assert bright["drawn"] == [levels[0].tolist(), levels[2].tolist(), None]
    assert dark["drawn"] == [levels[1].tolist(), levels[3].tolist(), None]
    held = corpus.heldout.levels[corpus.heldout.labels == 0]
    assert bright["real"] == [image.tolist() for image in held[:3]]
