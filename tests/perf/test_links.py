"""Collectives over links, against the textbook's volumes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sharded import FREE_LINKS, RATES
from twobills.counts.sharded_step import Hidden, Pattern, Place, Transfer
from twobills.perf.achieved import MESSAGE_S, Achieved
from twobills.perf.links import transfer_s

GB = 1e9
BARE = RATES._replace(fast_bytes_per_s=100 * GB, slow_bytes_per_s=10 * GB, n_fast=8.0)
groups = st.sampled_from((1.0, 2.0, 3.0, 8.0, 16.0, 100.0, 1024.0))
strides = st.sampled_from((1.0, 2.0, 4.0, 8.0, 64.0))
patterns = st.sampled_from(Pattern)


def transfer(pattern: Pattern, group: float, *, stride: float = 1.0, n_bytes: float = GB, **changes: Any) -> Transfer:
    return Transfer(
        name="a test's",
        pattern=pattern,
        place=Place.STEP,
        hidden=Hidden.NOTHING,
        bytes=np.array([n_bytes]),
        calls=np.array([1.0]),
        group=np.array([group]),
        stride=np.array([stride]),
    )._replace(**changes)


def seconds(t: Transfer, rates: Achieved = BARE) -> float:
    """Without what each message costs."""
    latency = MESSAGE_S * np.log2(np.maximum(t.group, 1)) * t.calls
    return float((transfer_s(t, rates) - np.where(t.bytes > 0, latency, 0))[0])


@pytest.mark.parametrize("group", [2, 4, 8])
def test_an_all_gather_receives_all_but_its_own_part(group: int) -> None:
    """(n - 1)/n of the buffer at a chip's rate; an all-reduce twice that (Thakur et al. 2005, section 4)."""
    expected = GB * (group - 1) / group / (100 * GB)
    assert seconds(transfer(Pattern.GATHER, group)) == pytest.approx(expected)
    assert seconds(transfer(Pattern.ALL_REDUCE, group)) == pytest.approx(2 * expected)


def test_a_ring_over_servers_uses_the_adapters_of_all_its_members_in_one() -> None:
    """64 ranks, 8 a server: 8 adapters of 10 GB/s carry the ring; with every 4th rank 2 of them; with every 8th one."""
    for stride, rate in ((1, 80), (4, 20), (8, 10), (16, 10)):
        found = seconds(transfer(Pattern.GATHER, 64, stride=stride))
        assert found == pytest.approx(GB * 63 / 64 / (rate * GB))


def test_adapters_together_are_no_faster_than_a_chips_own_links() -> None:
    rich = BARE._replace(slow_bytes_per_s=50 * GB)
    assert seconds(transfer(Pattern.GATHER, 64), rich) == pytest.approx(GB * 63 / 64 / (100 * GB))


def test_a_group_inside_the_fast_domain_does_not_see_the_network() -> None:
    crawling = BARE._replace(slow_bytes_per_s=1.0)
    for pattern in (Pattern.GATHER, Pattern.ALL_REDUCE, Pattern.ALL_TO_ALL):
        for group, stride in ((8, 1), (4, 2), (2, 4)):
            t = transfer(pattern, group, stride=stride)
            assert seconds(t, crawling) == seconds(t)
            wider = t._replace(group=t.group * 2)
            assert seconds(wider, crawling) > seconds(wider)


def test_a_stage_sends_over_the_network_if_any_of_the_pipeline_does() -> None:
    """Four stages two ranks apart fill a server of 8; eight need two servers, and the slowest pair is waited for."""
    assert seconds(transfer(Pattern.SEND, 4, stride=2)) == pytest.approx(GB / (100 * GB))
    assert seconds(transfer(Pattern.SEND, 8, stride=2)) == pytest.approx(GB / (10 * GB))
    assert seconds(transfer(Pattern.SEND, 2, stride=8)) == pytest.approx(GB / (10 * GB))


def test_a_token_goes_to_each_of_its_experts_ranks_but_its_own() -> None:
    for copies in (1, 2, 6):
        t = transfer(Pattern.ALL_TO_ALL, 8, copies=copies)
        assert seconds(t) == pytest.approx(copies * GB * 7 / 8 / (100 * GB))


def test_a_token_crosses_the_network_once_for_each_server_it_goes_to() -> None:
    """8 servers, tokens to 8 ranks at random: 8 (1 - (7/8)^8) = 5.25 servers, one in 8 of them the token's own."""
    t = transfer(Pattern.ALL_TO_ALL, 64, copies=8)
    reached = sum(1 - (1 - 1 / 8) ** 8 for _ in range(8))
    assert reached == pytest.approx(5.2512, abs=1e-4)
    assert seconds(t) == pytest.approx(GB * reached * 7 / 8 / (10 * GB))


def test_a_router_that_may_reach_few_servers_sends_to_no_more() -> None:
    """DeepSeek-V3, section 3.2.2: at most 4 servers for a token."""
    t = transfer(Pattern.ALL_TO_ALL, 64, copies=8, most_domains=4)
    assert seconds(t) == pytest.approx(GB * 4 * 7 / 8 / (10 * GB))


@given(st.floats(1, 64), st.integers(1, 16))
def test_reached_servers_are_what_drawing_at_random_gives(servers: float, copies: int) -> None:
    t = transfer(Pattern.ALL_TO_ALL, 8 * servers, copies=copies)
    far = seconds(t, BARE._replace(fast_bytes_per_s=np.inf)) * 10
    assert far <= min(copies, servers) + 1e-6


def test_drawn_ranks_reach_the_expected_number_of_servers() -> None:
    """Against 20,000 seeded draws of 8 ranks of 64, with replacement as the formula has it."""
    generator = np.random.default_rng(7)
    drawn = generator.integers(0, 8, size=(20_000, 8))
    other = np.array([len(set(row) - {0}) for row in drawn.tolist()])
    found = seconds(transfer(Pattern.ALL_TO_ALL, 64, copies=8)) * 10
    assert found == pytest.approx(other.mean(), abs=4 * other.std() / np.sqrt(len(other)))


@given(patterns, groups, strides)
def test_links_without_limit_take_no_time(pattern: Pattern, group: float, stride: float) -> None:
    assert seconds(transfer(pattern, group, stride=stride), FREE_LINKS) == pytest.approx(0, abs=1e-12)


@given(patterns, strides)
def test_one_rank_or_nothing_to_send_takes_no_time_at_all(pattern: Pattern, stride: float) -> None:
    assert transfer_s(transfer(pattern, 1, stride=stride), RATES)[0] == 0
    assert transfer_s(transfer(pattern, 16, stride=stride, n_bytes=0), RATES)[0] == 0


@given(patterns, groups, strides, st.floats(1, 100), st.sampled_from(("fast_bytes_per_s", "slow_bytes_per_s")))
def test_a_faster_link_is_never_slower(pattern: Pattern, group: float, stride: float, times: float, link: str) -> None:
    t = transfer(pattern, group, stride=stride, copies=4)
    faster = RATES._replace(**{link: getattr(RATES, link) * times})
    assert transfer_s(t, faster)[0] <= transfer_s(t, RATES)[0] * (1 + 1e-12)


@given(st.sampled_from((Pattern.GATHER, Pattern.ALL_REDUCE, Pattern.SEND)), groups, strides, st.floats(1, 16))
def test_a_wider_fast_domain_is_never_slower(pattern: Pattern, group: float, stride: float, times: float) -> None:
    t = transfer(pattern, group, stride=stride)
    assert transfer_s(t, RATES._replace(n_fast=8 * times))[0] <= transfer_s(t, RATES)[0] * (1 + 1e-12)


@given(patterns, groups, strides, st.floats(0, 1e12), st.floats(1, 4))
def test_more_bytes_are_never_faster_and_calls_add(
    pattern: Pattern, group: float, stride: float, n_bytes: float, times: float
) -> None:
    t = transfer(pattern, group, stride=stride, n_bytes=n_bytes)
    alone = float(transfer_s(t, RATES)[0])
    assert float(transfer_s(t._replace(bytes=t.bytes * times), RATES)[0]) >= alone
    assert float(transfer_s(t._replace(calls=t.calls * 3), RATES)[0]) == pytest.approx(3 * alone)


def test_each_doubling_of_the_ranks_costs_a_message() -> None:
    for group, messages in ((2, 1), (8, 3), (1024, 10)):
        assert transfer_s(transfer(Pattern.GATHER, group), FREE_LINKS)[0] == pytest.approx(messages * MESSAGE_S)
