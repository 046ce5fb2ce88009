"""One curve whatever the number of processes, and checkpoints that any number of them reads.

Two and four gloo processes are started once each and do all that is asked of them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.jobs.training import group
from twobills.errors import RequestError
from twobills.jobs.device import pick_device
from twobills.jobs.training.processes import Processes, Seat
from twobills.jobs.training.sharded import way_of
from twobills.jobs.training.sharded_step import check_group
from twobills.jobs.training.shared_work import cost_of, dealt_out, slice_heights

CURVES: list[dict[str, Any]] = [
    {"optimizer": "muon", "parallel": "fsdp", "accumulate": 2},
    {"optimizer": "muon", "parallel": "ddp"},
    {"optimizer": "adamw", "parallel": "fsdp"},
    {"optimizer": "adamw", "parallel": "ddp", "accumulate": 2},
]
WITHIN = 1e-4
pytestmark = pytest.mark.timeout(400)  # six processes load PyTorch, on cores that others may use


class Found(NamedTuple):
    """What groups of one, two and four processes found."""

    alone: dict[str, Any]
    """By optimiser."""
    of_2: list[Any]
    of_4: list[Any]
    resumed: dict[str, Any]
    """By which checkpoint on how many."""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    folder = tmp_path_factory.mktemp("checkpoints")
    of_1, of_4 = str(folder / "of-1"), str(folder / "of-4")
    alone = Processes(Seat(), pick_device())
    threads = torch.get_num_threads()
    curves = {
        "muon": group.curve(alone, {"spec": {}, "save": of_1}),
        "adamw": group.curve(alone, {"spec": {"optimizer": "adamw"}}),
    }
    by_4 = group.run(4, *({"spec": spec, **({} if i else {"save": of_4})} for i, spec in enumerate(CURVES)))
    resumes = {"4 on 2": (of_4, "fsdp"), "4 on 2 copies": (of_4, "ddp"), "1 on 2": (of_1, "fsdp")}
    asked = [{"spec": {"parallel": way}, "resume": folder} for folder, way in resumes.values()]
    by_2 = group.run(2, *({"spec": spec} for spec in CURVES), *asked)
    resumed = dict(zip(resumes, by_2[len(CURVES) :], strict=True))
    resumed["4 on 1"] = group.curve(alone, {"spec": {}, "resume": of_4})
    torch.set_num_threads(threads)
    return Found(curves, by_2[: len(CURVES)], by_4, resumed)


@pytest.mark.parametrize("n", [2, 4])
@pytest.mark.parametrize("which", range(len(CURVES)), ids=lambda i: "-".join(map(str, CURVES[i].values())))
def test_losses_norms_and_work_do_not_depend_on_the_number_of_processes(found: Found, n: int, which: int) -> None:
    many = (found.of_2 if n == 2 else found.of_4)[which]
    one = found.alone[CURVES[which]["optimizer"]]
    assert one["steps"][-1][0] < 0.75 * one["steps"][0][0], "a curve that does not fall shows nothing"
    assert torch.tensor(many["steps"]) == pytest.approx(torch.tensor(one["steps"]), rel=WITHIN)
    assert many["flops"] == one["flops"], "no process repeats another's products"


@pytest.mark.parametrize("n", [2, 4])
def test_a_refused_update_changes_nothing(found: Found, n: int) -> None:
    for many in found.of_2 if n == 2 else found.of_4:
        assert many["refused"] == many["after"]


@pytest.mark.parametrize("which", ["4 on 2", "4 on 2 copies", "1 on 2", "4 on 1"])
def test_a_checkpoint_goes_on_with_another_number_of_processes(found: Found, which: str) -> None:
    uninterrupted = torch.tensor(found.alone["muon"]["steps"][group.SAVED_AT :])
    assert torch.tensor(found.resumed[which]["steps"]) == pytest.approx(uninterrupted, rel=WITHIN)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"accumulate": 3}, "batch_size=8: fewer sequences than 3 processes x accumulate=3 need; each must have one"),
        ({"parallel": "none"}, "parallel=none: 3 processes were started; take auto, ddp or fsdp"),
        ({"compile": True}, "compile=true: 3 processes were started, which run uncompiled; leave it out"),
    ],
    ids=["sequences", "parallel", "compile"],
)
def test_what_a_group_cannot_do_is_one_line(asked: dict[str, Any], told: str) -> None:
    check_group(3, batch_size=8, accumulate=2)
    with pytest.raises(RequestError) as error:
        check_group(3, batch_size=8, **asked)
    assert str(error.value) == told


def test_copies_are_made_where_they_fit() -> None:
    alone, network = Processes(Seat(), pick_device()), group.network_of()
    assert way_of(group.spec_of(), network, alone) == "ddp"
    alone.device = alone.device._replace(memory_bytes=1e6)
    assert way_of(group.spec_of(), network, alone) == "fsdp"
    assert way_of(group.spec_of(parallel="ddp"), network, alone) == "ddp"


@given(st.lists(st.tuples(st.integers(1, 300), st.integers(1, 300)), max_size=20), st.integers(1, 9))
def test_work_is_dealt_out_once_and_evenly(shapes: list[tuple[int, int]], n: int) -> None:
    owned = dealt_out(shapes, n)
    assert sorted(i for of_one in owned for i in of_one) == list(range(len(shapes)))
    loads = [sum(cost_of(shapes[i]) for i in of_one) for of_one in owned]
    assert max(loads) <= sum(loads) / n + max(map(cost_of, shapes), default=0)


@given(st.integers(1, 1000), st.integers(1, 17))
def test_slices_are_cut_as_pytorch_cuts_them(n_rows: int, n: int) -> None:
    chunks = [len(chunk) for chunk in torch.arange(n_rows).chunk(n)]
    assert slice_heights(n_rows, n) == chunks + [0] * (n - len(chunks))
