"""Who asks once waits for the end of the step; who asks twice does not."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from twobills.flows.stopping import asked_to_stop


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_asking_once_is_heard_and_interrupts_nothing(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with asked_to_stop() as asked:
        assert not asked()
        os.kill(os.getpid(), number)
        assert asked()
    assert signal.getsignal(number) is before


def test_asking_twice_interrupts() -> None:
    with asked_to_stop():
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_in_another_thread_nobody_can_ask() -> None:
    heard: list[bool] = []

    def work() -> None:
        with asked_to_stop() as asked:
            heard.append(asked())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert heard == [False]
