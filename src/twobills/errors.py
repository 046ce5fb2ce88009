"""The tree of exceptions: every mistake a user can make is one of these, and reads as one line.

Each carries the exit status that the command line ends with (0 done, 1 could not, 2 wrong request,
3 budget, 4 target not met, 130 interrupted). A message names what, which value and what would be right.
A traceback that reaches a user is a bug of ours.
"""

from __future__ import annotations


class TwobillsError(Exception):
    """Something could not be done; the message is one line for the user."""

    exit_status = 1


class RequestError(TwobillsError):
    """The request itself was wrong: a flag, a path, a key in a file."""

    exit_status = 2


class SpecError(RequestError):
    """A fact about a model, a machine or a run contradicts itself: ``n_heads=12: not divisible by n_kv_heads=5``."""


class CatalogError(RequestError):
    """A name that the catalogue does not hold, or a catalogue file that breaks its own rules."""


class DataError(RequestError):
    """Training data that is missing, unreadable, empty or too small."""


class ModelFolderError(RequestError):
    """A folder that is not a model that can be served."""


class DigestError(ModelFolderError):
    """Weights that are not the ones their digest names: frozen means frozen."""


class UsageError(TwobillsError):
    """Two usages that may not be added: another job, or another origin."""


class CheckpointError(TwobillsError):
    """A checkpoint that cannot be written, or that this run cannot go on from."""


class GroupError(TwobillsError):
    """A process of the group that trains together is gone, hangs or never came.

    Every process left raises it, with the same message, so that each can clean up; ``spoken`` is true in the one that
    should show it.
    """

    def __init__(self, message: str, *, spoken: bool = True, exit_status: int = 1) -> None:
        super().__init__(message)
        self.spoken, self.exit_status = spoken, exit_status


class LedgerError(TwobillsError):
    """The ledger could not be read or written, or somebody tried to change the past."""


class MissingExtraError(TwobillsError):
    """A command that needs the extra ``[run]`` (PyTorch and the server) in an installation without it."""


class ServerError(TwobillsError):
    """The server could not be started or did not answer."""


class BudgetError(TwobillsError):
    """A budget ended the work; the state is kept."""

    exit_status = 3


class TargetError(TwobillsError):
    """The work was done and a stated target was not met."""

    exit_status = 4
