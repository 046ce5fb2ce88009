"""What a job learns from, in the whole job: any bytes, several sources by weight, tokens that are there already."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from twobills.errors import DataError
from twobills.flows import planned_job
from twobills.flows.accounts import account
from twobills.flows.job_data import bytes_to_prepare, forget_tokens, job_corpus, prepare_tokens, tokens_root
from twobills.flows.listener import Listener
from twobills.flows.machine import MeasuredMachine
from twobills.flows.planned_job import job_cores, plan_job, planned_job_to_json
from twobills.flows.training_job import TrainedModel, run_job
from twobills.jobs.device import pick_device, usable_cores
from twobills.jobs.inference.weights import load_folder
from twobills.ledger.store import Ledger
from twobills.plan.local import PREPARE_BYTES_PER_S
from twobills.specs.data import DataSpec, Modality, Packing, SourceSpec
from twobills.specs.job import TrainingJob
from twobills.usage import Phase


def trained(job: TrainingJob, measured: MeasuredMachine, ledger: Ledger) -> TrainedModel:
    planned = plan_job(job, job_corpus(job), measured)
    with account(ledger, "train", {}) as run_id:
        return run_job(planned.task(), ledger, run_id, Listener())


@pytest.fixture(autouse=True)
def _unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planned_job, "OVERTIME", 1e6)


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """300 records, 60 kB."""
    path = tmp_path / "records.jsonl"
    lines = (json.dumps({"text": f"record {i} " + f"says {i % 7} " * 25}) for i in range(300))
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_any_bytes_are_trained_on_and_served_as_text(
    job: TrainingJob, measured: MeasuredMachine, ledger: Ledger, tmp_path: Path
) -> None:
    noise = tmp_path / "noise.bin"
    noise.write_bytes(bytes(range(256)) * 400)
    model = trained(replace(job, data=DataSpec.of(noise, Modality.BYTES), steps=4), measured, ledger)
    assert model.model.vocab_size == 257
    assert model.data["modality"] == "bytes"
    n_documents = model.data["n_documents"] - model.data["n_heldout_documents"]
    assert model.data["n_training_tokens"] == model.data["training_bytes"] + n_documents
    assert 0 < model.quality["heldout_bits_per_byte"] < 9
    tokenizer = load_folder(job.out).tokenizer()
    prompt = bytes(range(200, 256)).decode("latin-1")
    assert tokenizer.decode(tokenizer.encode(prompt).ids) == prompt


def test_sources_are_seen_by_weight_and_their_epochs_are_told(
    job: TrainingJob, measured: MeasuredMachine, ledger: Ledger, corpus_folder: Path, records: Path
) -> None:
    sources = (SourceSpec(path=corpus_folder, weight=3), SourceSpec(path=records, weight=1))
    job = replace(job, data=DataSpec(sources=sources), steps=6)
    plan = planned_job_to_json(plan_job(job, job_corpus(job), measured))
    foreseen = {source["name"]: source for source in plan["sources"]}
    seen = trained(job, measured, ledger).training["sources"]
    n_tokens = 6 * job.batch_size * job.seq_len
    assert [source["name"] for source in seen] == [str(corpus_folder), str(records)]
    for source, share in zip(seen, (0.75, 0.25), strict=True):
        assert source["share"] == share
        assert source["epochs"] == pytest.approx(share * n_tokens / source["n_tokens"])
        assert foreseen[source["name"]]["share"] == share
        assert foreseen[source["name"]]["epochs"] == pytest.approx(source["epochs"], rel=0.6)  # tokens are assumed


def test_sources_without_weights_are_seen_alike(
    job: TrainingJob, measured: MeasuredMachine, ledger: Ledger, corpus_folder: Path, records: Path
) -> None:
    sources = (SourceSpec(path=corpus_folder), SourceSpec(path=records))
    seen = trained(replace(job, data=DataSpec(sources=sources), steps=3), measured, ledger).training["sources"]
    assert seen[0]["epochs"] == seen[1]["epochs"] > 0
    assert sum(source["share"] for source in seen) == pytest.approx(1)


def test_windows_of_whole_documents_train_too(
    job: TrainingJob, measured: MeasuredMachine, ledger: Ledger, records: Path
) -> None:
    data = DataSpec(sources=(SourceSpec(path=records),), packing=Packing.DOCUMENTS)
    model = trained(replace(job, data=data, steps=3), measured, ledger)
    assert 0 < model.training["empty_frac"] < 1
    (source,) = model.training["sources"]
    filled = 3 * job.batch_size * job.seq_len * (1 - model.training["empty_frac"])
    assert source["epochs"] == pytest.approx(filled / source["n_tokens"], rel=0.01)


def test_tokens_of_a_cache_cost_nothing_and_the_plan_knows(
    job: TrainingJob, measured: MeasuredMachine, tmp_path: Path
) -> None:
    job = replace(job, data=replace(job.data, cache=tmp_path / "cache"))
    corpus = job_corpus(job)
    before = plan_job(job, corpus, measured).plan.bill.line(Phase.PRETRAIN).usage.chip_s
    n_bytes = bytes_to_prepare(job, corpus)
    assert n_bytes == corpus.training_bytes + corpus.heldout_bytes
    prepare_tokens(job, corpus, Listener())
    after = plan_job(job, corpus, measured).plan.bill.line(Phase.PRETRAIN).usage.chip_s
    assert before - after == pytest.approx(n_bytes / PREPARE_BYTES_PER_S * measured.spec.n_chips)
    other = replace(job, out=job.out.with_name("other"))
    assert bytes_to_prepare(other, job_corpus(other)) == 0
    assert bytes_to_prepare(replace(other, vocab_size=600), corpus) == n_bytes
    forget_tokens(job)
    assert bytes_to_prepare(job, corpus) == 0


def test_tokens_that_no_one_will_need_are_removed(job: TrainingJob) -> None:
    corpus = job_corpus(job)
    assert prepare_tokens(job, corpus, Listener()).folder.is_relative_to(tokens_root(job))
    forget_tokens(job)
    assert not tokens_root(job).exists()


def test_a_damaged_shard_is_one_line(job: TrainingJob, measured: MeasuredMachine, ledger: Ledger) -> None:
    folder = prepare_tokens(job, job_corpus(job), Listener()).folder
    shard = next(folder.glob("train-*.bin"))
    content = bytearray(shard.read_bytes())
    content[7] ^= 1
    shard.write_bytes(content)
    with pytest.raises(DataError, match=rf"{shard.name}: is damaged"):
        trained(job, measured, ledger)


def test_training_of_a_tiny_named_shape_takes_one_core(job: TrainingJob) -> None:
    """Where the shape is known before the machine is, and nothing is prepared by all cores."""
    any_bytes = replace(job, data=replace(job.data, modality=Modality.BYTES))
    corpus = job_corpus(any_bytes)
    assert job_cores(any_bytes, corpus) == 1
    assert job_cores(replace(any_bytes, model={}), corpus) is None
    assert job_cores(job, job_corpus(job)) is None, "all cores learn a vocabulary"
    large = {"n_layers": 4, "d_model": 256, "n_heads": 4, "n_kv_heads": 2, "d_ff": 704}
    assert job_cores(replace(any_bytes, batch_size=8, seq_len=256, model=large), corpus) == usable_cores()
    digits = TrainingJob(out=job.out, data=DataSpec.of(None, Modality.IMAGES))
    assert job_cores(digits, job_corpus(digits)) == 1
    assert pick_device(1).n_chips == 1
