"""How long a collective takes over the links that its ranks share.

A ring over ``group`` ranks, of which ``k`` neighbours share a fast domain: within the domain it runs at a chip's link
rate; beyond it, all ``k`` members' network adapters carry the ring's traffic together, up to the link rate. Each
call costs a message time for every doubling of its ranks (trees and rings with good algorithms; assumed).
Ref: Thakur et al. 2005; Chan et al. 2007 for the (n - 1) / n of a buffer.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from twobills.counts.layouts import Column
from twobills.counts.sharded_step import Pattern, Transfer
from twobills.perf.achieved import Figure


class LinkRates(Protocol):
    """What a transfer must know of the chips."""

    @property
    def fast_bytes_per_s(self) -> Figure:
        """Of one chip, over the links of its fast domain."""

    @property
    def slow_bytes_per_s(self) -> Figure:
        """Of one chip, over the network."""

    @property
    def n_fast(self) -> Figure:
        """Chips of a fast domain."""

    @property
    def message_s(self) -> Figure:
        """Of each call, for every doubling of its ranks."""


def transfer_s(transfer: Transfer, rates: LinkRates) -> Column:
    """Seconds of all calls of one collective; 0 where its group is one rank, or where there is nothing to send."""
    group = np.maximum(transfer.group, 1.0)
    neighbours = np.clip(rates.n_fast / transfer.stride, 1.0, group)
    inside = neighbours >= group
    seconds: Column
    if transfer.pattern is Pattern.SEND:
        seconds = transfer.bytes / np.where(_crosses(transfer, rates), rates.slow_bytes_per_s, rates.fast_bytes_per_s)
    elif transfer.pattern is Pattern.ALL_TO_ALL:
        seconds = _to_all_s(transfer, rates, group, neighbours)
    else:
        over_network = np.minimum(rates.fast_bytes_per_s, neighbours * rates.slow_bytes_per_s)
        rate = np.where(inside, rates.fast_bytes_per_s, over_network)
        seconds = transfer.bytes * (group - 1) / group / rate
        if transfer.pattern is Pattern.ALL_REDUCE:
            seconds = 2 * seconds
    latency = rates.message_s * np.log2(group)
    total: Column = np.where((group > 1) & (transfer.bytes > 0), transfer.calls * (seconds + latency), 0.0)
    return total


def _to_all_s(transfer: Transfer, rates: LinkRates, group: Column, neighbours: Column) -> Column:
    """Each token to ``copies`` ranks at random: once over the network to each domain that holds some, then fast links.

    Ref: DeepSeek-V3, arXiv:2412.19437, section 3.2.2, its limit on one token's domains included.
    """
    domains = group / neighbours
    reached = np.minimum(domains * (1 - (1 - 1 / domains) ** transfer.copies), transfer.most_domains)
    far = transfer.bytes * reached * (1 - 1 / domains) / rates.slow_bytes_per_s
    near = transfer.bytes * transfer.copies * (1 - 1 / neighbours) / rates.fast_bytes_per_s
    return np.maximum(near, far)


def _crosses(transfer: Transfer, rates: LinkRates) -> np.ndarray:
    """Whether some pipeline stage's next one is outside the fast domain: all wait for that pair."""
    return np.asarray(transfer.stride * transfer.group > rates.n_fast)
