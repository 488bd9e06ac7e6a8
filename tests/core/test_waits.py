"""A step makes the host wait for the device a counted number of times, and gives the CPU's samples."""

from itertools import pairwise

import pytest
import torch

from guided.core.batching import Evaluator
from guided.core.diffusion import Diffusion
from guided.core.guidance import Conditions
from guided.core.masked import Masked
from guided.core.monitor import Monitor
from guided.core.random import Streams
from guided.samplers import SVDD
from tests.toys.remote import DEVICE, Remote

L, V, K, B, M = 12, 4, 8, 5, 3


def model(device, timed):
    weights = torch.randn(L * (V + 1), L * V, generator=torch.Generator().manual_seed(0)).to(device)

    def denoiser(x, t, label):
        h = torch.nn.functional.one_hot(x, V + 1).float().flatten(1) @ weights + label[:, None]
        return h.view(-1, L, V).log_softmax(-1)

    made = Diffusion(denoiser, Masked(L, V, K), timed=timed, evaluator=Evaluator(4, device))
    return made.with_requests(conditions=Conditions({"label": torch.arange(B, device=device).float()}))


def value(particles, alpha):
    """The number of zeros of the clean samples; one copy to the host."""
    ahead = particles.look_ahead()
    return (ahead.rows == 0).double().sum(1)[ahead.index[..., 0]].cpu()


def steps_of(monitor_of):
    seen = []
    return seen, Monitor(on_step=lambda k: seen.append(monitor_of()))


@pytest.mark.parametrize("timed", [True, False])
@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_a_step_waits_three_times(timed, alpha):
    """For the distinct rows, for the distinct look-aheads and for their scores; at the end once more, for a check."""
    with Remote() as remote:
        seen, monitor = steps_of(lambda: remote.waits)
        there = SVDD(M, alpha)(model(DEVICE, timed).with_requests(monitor=monitor), value, Streams(3, range(B), DEVICE))
        x = there.x.cpu()
    assert {after - before for before, after in pairwise(seen)} <= {3, 4}
    assert remote.waits <= 3 * K + 2, remote.reasons
    here = SVDD(M, alpha)(model(torch.device("cpu"), timed), value, Streams(3, range(B)))
    assert torch.equal(x, here.x)


def test_the_counter_sees_what_waits():
    with Remote() as remote:
        x = torch.arange(6, device=DEVICE)
        assert remote.waits == 0
        for wait in (
            lambda: x.sum().item(),
            lambda: bool((x > 2).any()),
            lambda: x[x > 2],
            lambda: x.nonzero(),
            lambda: x.tolist(),
            lambda: x.cpu(),
            lambda: x.unique(),
        ):
            before = remote.waits
            wait()
            assert remote.waits == before + 1
        x[torch.tensor([1, 2]).to(DEVICE)] * 2  # no wait
        assert remote.waits == 7 and remote.uploads == 1
