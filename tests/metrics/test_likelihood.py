"""The bound on the likelihood: exact where the conditionals are, and below the truth where they are not."""

import math
from collections.abc import Sequence

import pytest
import torch

from guided.core.diffusion import Diffusion
from guided.core.guidance import Conditions
from guided.core.masked import Masked
from guided.core.prompting import Prompting
from guided.core.random import Streams
from guided.errors import GuidedError
from guided.metrics.likelihood import log_likelihood
from tests.toys.chains import Chain, gaussian


def test_bound_is_the_likelihood_of_a_chain_that_reveals_one_token_at_a_time() -> None:
    """Exact conditionals, and so many steps that two tokens are hardly ever revealed together."""
    chain = Chain(L=3, V=2)
    model = chain.model().with_steps(200)
    x = chain.clean.repeat_interleave(60, 0)
    found = log_likelihood(model, x, draws=60).view(len(chain.clean), 60)
    want = chain.table.log()
    error = found.std(1) / math.sqrt(60)
    assert ((found.mean(1) - want).abs() < 4 * error + 0.03).all()


def test_independent_tokens_have_the_sum_of_their_log_probabilities() -> None:
    p = torch.tensor([0.5, 0.3, 0.2])
    model = Diffusion(lambda x, t: p.log().expand(*x.shape, 3), Masked(40, 3, 16), timed=False)
    x = torch.randint(0, 3, (64, 40), generator=torch.Generator().manual_seed(1))
    found = log_likelihood(model, x, draws=64)
    assert found.mean().item() == pytest.approx(p.log()[x].sum(1).mean().item(), rel=0.02)


def test_fewer_steps_never_raise_the_bound() -> None:
    """In one step all tokens are independent: the bound is the sum of the marginal log-probabilities."""
    chain = Chain(L=3, V=2)
    x = chain.clean
    one = log_likelihood(chain.model().with_steps(1), x, draws=4)
    marginals = chain.conditionals[-1]
    want = marginals[torch.arange(3), x].sum(1)
    torch.testing.assert_close(one, want, atol=1e-5, rtol=1e-5)
    assert (chain.table * one).sum() < (chain.table * chain.table.log()).sum()


def test_rows_do_not_depend_on_those_beside_them() -> None:
    chain = Chain(L=3, V=2)
    x = chain.clean
    assert torch.equal(log_likelihood(chain.model(), x)[:3], log_likelihood(chain.model(), x[:3]))


def test_wrong_input_is_refused() -> None:
    chain = Chain()
    with pytest.raises(ValueError, match="continuous"):
        log_likelihood(gaussian(), torch.zeros(1, 2))
    with pytest.raises(ValueError, match="draws is 0"):
        log_likelihood(chain.model(), chain.clean, draws=0)
    for wrong in (2.5, "8", float("nan")):
        with pytest.raises(GuidedError, match="draws is "):
            log_likelihood(chain.model(), chain.clean, draws=wrong)  # type: ignore[arg-type]
    with pytest.raises(GuidedError, match="seed is -1"):
        log_likelihood(chain.model(), chain.clean, seed=-1)
    with pytest.raises(ValueError, match="conditions for 2 requests, and there are 8 rows"):
        log_likelihood(chain.model().with_requests(conditions=Conditions({"label": torch.zeros(2)})), chain.clean)


@pytest.mark.parametrize(("scale", "temperature"), [(2.0, 1.0), (6.0, 1.0), (None, 0.5)])
def test_the_distribution_is_that_of_the_tokens_as_they_are_drawn(scale: float | None, temperature: float) -> None:
    """Guidance and temperature change the distribution; the log-probability is that under the changed one."""
    label_log_p = torch.tensor([[0.4, 0.3, 0.3], [0.6, 0.3, 0.1]]).log()

    def denoiser(x: torch.Tensor, t: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return label_log_p[label][:, None].expand(*x.shape, 3)

    def condition(prompts: Sequence[str]) -> dict[str, torch.Tensor]:
        return {"label": torch.tensor([int(prompt == "yes") for prompt in prompts])}

    process = Masked(30, 3, 16, temperature=temperature)
    model = Diffusion(denoiser, process, prompting=Prompting(condition), timed=False).prompted(["yes"] * 200, scale)
    p = label_log_p[1] if scale is None else label_log_p[0] + scale * (label_log_p[1] - label_log_p[0])
    p = (p / temperature).log_softmax(-1)
    x = torch.multinomial(p.exp().expand(200, 3), 30, replacement=True)
    assert log_likelihood(model, x).mean().item() == pytest.approx(p[x].sum(1).mean().item(), rel=0.03)


def test_one_draw_is_unbiased_over_seeds() -> None:
    """Where the steps of the draws begin is random: one draw sees all steps, not the noisiest again and again."""
    chain = Chain(L=3, V=2)
    model, x = chain.model().with_steps(4), chain.clean
    wanted = log_likelihood(model, x, draws=2000)
    found = torch.stack([log_likelihood(model, x, draws=1, seed=seed) for seed in range(600)])
    error = found.std(0) / math.sqrt(len(found))
    assert ((found.mean(0) - wanted).abs() < 4.5 * error + 0.02).all()
    noisiest = log_likelihood(chain.model().with_steps(1), x, draws=1)
    assert ((wanted - noisiest).abs() > 6 * error).any()  # what is seen at the noisiest step alone is something else


def test_samples_are_judged_by_other_noise_than_they_were_drawn_by(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the same seed and number, too: or the masks would be those that the sample was revealed by."""
    chain, masks = Chain(L=3, V=2), []

    def watched(self: Masked, x: torch.Tensor, k: int, streams: Streams) -> torch.Tensor:
        masks.append(streams.uniform(50))
        return noise(self, x, k, streams)

    noise = Masked.noise
    monkeypatch.setattr(Masked, "noise", watched)
    log_likelihood(chain.model(), chain.clean, draws=1, seed=7)
    of_the_run = Streams(7, range(len(chain.clean))).uniform(50)
    assert not (masks[0] == of_the_run).any()
