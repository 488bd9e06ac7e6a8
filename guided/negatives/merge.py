r"""Arithmetic on weights: a negative checkpoint, moved relative to the positive model.

.. math:: \theta_- = \theta_{base} + \alpha (\theta_{npo} - \theta_{base}) + (1 - \beta) (\theta_+ - \theta_{base})

:math:`\alpha` is how far the negative side moves away from the base. :math:`\beta` is the share of the positive model's
preference offset, its fine-tuning relative to the base, that is left out of the negative side.

References:
    | Diffusion-NPO: Negative Preference Optimization for Better Preference Aligned Generation of Diffusion Models
    | (Wang et al., 2025) https://arxiv.org/abs/2505.11245
"""

__all__ = ["merge"]

from collections.abc import Mapping

from torch import Tensor

from guided.errors import GuidedError, check_number

Weights = Mapping[str, Tensor]


def merge(base: Weights, positive: Weights, npo: Weights, alpha: float = 1.0, beta: float = 0.0) -> dict[str, Tensor]:
    """The weights of the negative side, each in the precision of the positive model's.

    Args:
        base: The weights that the negative checkpoint was trained from.
        positive: Those of the model that is guided; often the same.
        npo: Those of the negative checkpoint.
        alpha: How far the negative side moves: at 0 not at all, at 1 to the checkpoint.
        beta: The share of the positive model's own offset that is left out, from 0 to 1.

    Raises:
        GuidedError: The names or shapes differ, or beta is out of range.
    """
    check_mixing(alpha, beta)
    for other, what in ((positive, "the positive model"), (npo, "the negative checkpoint")):
        for key in sorted(base.keys() | other.keys()):
            one, two = base.get(key), other.get(key)
            if one is None or two is None or one.shape != two.shape:
                shapes = [tuple(w.shape) if w is not None else "nothing" for w in (two, one)]
                raise GuidedError(f"{what} is of another architecture: {key} is {shapes[0]}, the base has {shapes[1]}")
    return {key: _merged(base[key], positive[key], npo[key], alpha, beta) for key in base}


def _merged(base: Tensor, positive: Tensor, npo: Tensor, alpha: float, beta: float) -> Tensor:
    if not base.is_floating_point():
        return positive
    b, p, n = (weight.to(base.device).double() for weight in (base, positive, npo))
    return (b + alpha * (n - b) + (1 - beta) * (p - b)).to(positive)


def check_mixing(alpha: float, beta: float) -> None:
    """Checks alpha and beta early.

    Raises:
        GuidedError: Alpha is not finite, or beta not in [0, 1].
    """
    check_number("the negative checkpoint's alpha", alpha, float)
    check_number("the negative checkpoint's beta", beta, float, least=0, most=1)
