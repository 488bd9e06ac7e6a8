r"""Diffusion posterior sampling (DPS), towards :math:`p(x) \exp(r(x) / \alpha) / Z`, of models of real numbers.

The score of the noisy law is taken to be that of the model plus the gradient of the reward of the clean mean
:math:`y(x_k)`, through the network. By Tweedie's formula the step is the model's own with the clean mean

.. math:: \tilde y = y(x_k) + \frac{\sigma_k^2}{\alpha_k} \nabla_{x_k} \frac{r(y(x_k))}{\alpha}

Law: the score is exact for a Gaussian prior and a linear reward, so that samples are the model's moved to the tilted
mean, but for what is lost where :math:`x_0` is drawn from the prior. Elsewhere it is biased, as r of the mean stands
for :math:`\alpha \log \mathbb{E} \exp(r / \alpha)`: for :math:`r = -x^2 / 2` on N(1, 1), alpha = 1 and 1000 steps the
tilted law is N(.5, .5), and samples have the mean .368 and the variance .429.

On a GPU torch adds up the gradients of attention in no fixed order, so two runs differ in their last digits, and may
come to differ in more.

Cost: K network rows a request and K reward calls, each with a gradient through the reward and the network.

References:
    | Diffusion Posterior Sampling for General Noisy Inverse Problems (Chung et al., 2022)
    | https://arxiv.org/abs/2209.14687
"""

__all__ = ["DPS"]

from dataclasses import dataclass
from typing import ClassVar

from guided.core.diffusion import Diffusion
from guided.core.gradient import leaning
from guided.core.particles import Particles
from guided.core.random import Streams
from guided.errors import check_number
from guided.samplers.base import register_sampler
from guided.values.protocol import Value, slope


@register_sampler("dps")
@dataclass(frozen=True)
class DPS:
    """Adds the gradient of the clean mean's reward to the score.

    Args:
        alpha: The temperature, in units of the reward, above 0.

    Raises:
        GuidedError: The temperature is out of range.
    """

    alpha: float = 0.1

    differentiates: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "alpha", check_number("alpha", self.alpha, float, above=0))

    def __call__(self, model: Diffusion, value: Value, streams: Streams) -> Particles:
        """Draws one sample for each request, with shape `(B, 1, *event)`.

        Raises:
            GuidedError: The value has no gradient, or the model is a masked one.
        """
        particles = model.start(streams)
        while not particles.done:
            _, g = slope(value, particles)
            particles = leaning(particles, g / self.alpha)
        return particles
