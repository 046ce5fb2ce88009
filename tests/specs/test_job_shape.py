"""``[model]`` of a job: which model it asks for, what is refused, and what makes it another run."""

from __future__ import annotations

from pathlib import Path

import pytest

from twobills.errors import RequestError
from twobills.specs.hf import to_hf
from twobills.specs.job import TrainingJob, read_job
from twobills.specs.job_shape import model_of_shape

SHAPE = {"n_layers": 2, "d_model": 32, "n_heads": 2, "n_kv_heads": 1, "d_ff": 64}


def job_file(tmp_path: Path, more: str = "") -> Path:
    path = tmp_path / "job.toml"
    shape = "".join(f"{key} = {value}\n" for key, value in SHAPE.items())
    path.write_text(f'out = "m"\n[model]\n{shape}{more}')
    return path


@pytest.mark.parametrize(
    ("more", "architecture", "tied"),
    [
        ("", "LlamaForCausalLM", True),
        ('activation = "silu"\ntied_embeddings = false\n', "LlamaForCausalLM", False),
        ("qk_norm = true\n", "Qwen3ForCausalLM", True),
        ('activation = "relu2"\n', "ArceeForCausalLM", True),
    ],
)
def test_a_choice_makes_another_family(tmp_path: Path, more: str, architecture: str, tied: bool) -> None:
    model = model_of_shape(read_job(job_file(tmp_path, more)).model, vocab_size=512, max_seq_len=64)
    config = to_hf(model, dtype="bfloat16", eos_token_id=0)
    assert (config["architectures"], config["tie_word_embeddings"]) == ([architecture], tied)
    assert (model.d_head, model.gated_mlp) == (16, architecture != "ArceeForCausalLM")


def test_choices_come_from_the_command_line_too(tmp_path: Path) -> None:
    job = read_job(job_file(tmp_path), ["model.activation=relu2", "model.tied_embeddings=false"])
    assert job.model == {**SHAPE, "activation": "relu2", "tied_embeddings": False}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("width = 64\n", r"\[model\]: unknown key 'width'; known are n_layers.* activation, qk_norm, tied_embeddings"),
        ('activation = "gelu"\n', "model.activation='gelu': must be one of silu, relu2"),
        ("activation = true\n", "model.activation=True: must be one of silu, relu2"),
        ("activation = [1]\n", r"model.activation=\[1\]: must be one of silu, relu2"),
        ("qk_norm = 1\n", "model.qk_norm=1: must be true or false"),
        ('tied_embeddings = "yes"\n', "model.tied_embeddings='yes': must be true or false"),
        ("d_head = true\n", "model.d_head=True: must be a number"),
        ('activation = "relu2"\nqk_norm = true\n', "qk_norm=true with model.activation='relu2': no Hugging Face arch"),
    ],
)
def test_what_nobody_has_is_one_line(tmp_path: Path, more: str, message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        read_job(job_file(tmp_path, more))
    assert "\n" not in str(caught.value)


def test_choices_without_a_shape_are_one_line() -> None:
    with pytest.raises(RequestError, match="n_layers is missing; give the whole shape"):
        TrainingJob(out=Path("m"), model={"activation": "relu2"})


def test_a_choice_is_part_of_what_the_run_is_and_a_default_need_not_be_said() -> None:
    defaults: dict[str, bool | str] = {"activation": "silu", "qk_norm": False, "tied_embeddings": True}
    choices: list[dict[str, bool | str]] = [{}, defaults, {"qk_norm": True}]
    plain, said, other = (TrainingJob(out=Path("m"), model={**SHAPE, **choice}).identity() for choice in choices)
    assert plain == said
    assert {key for key in other.keys() | plain.keys() if other.get(key) != plain.get(key)} == {"model.qk_norm"}
