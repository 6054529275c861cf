import torch
from torch import nn

from selftaught.training import memory

MEGABYTE = 2**20


def floats(megabytes: int) -> torch.Tensor:
    return torch.empty(megabytes * MEGABYTE // 4)


def test_the_peak_is_the_worst_moment_not_the_sum():
    def call():
        first = floats(3)
        del first
        second = floats(5)
        third = floats(2)
        del second, third
        floats(6)

    assert memory.peak(call) == 7 * MEGABYTE


def test_what_was_there_before_does_not_count():
    held = [floats(8)]
    assert memory.peak(lambda: held.append(floats(2))) == 2 * MEGABYTE


def test_what_was_prepared_counts_but_not_its_own_peak():
    held = []

    def prepare():
        floats(50)
        held.append(floats(8))

    def replace():
        held.clear()
        held.append(floats(3))

    assert memory.peak(replace, prepare=prepare) == 8 * MEGABYTE
    held.clear()
    assert memory.peak(lambda: held.append(floats(4)), prepare=prepare) == 12 * MEGABYTE


def test_a_backward_pass_counts():
    layer = nn.Linear(512, 512, bias=False)
    # The weight's gradient is as large as the weight: 1 MB.
    found = memory.peak(lambda: layer(torch.ones(1, 512)).sum().backward())
    assert MEGABYTE <= found < 1.1 * MEGABYTE


def test_nothing_is_said(capfd):
    memory.peak(lambda: floats(1))
    assert capfd.readouterr() == ("", "")
