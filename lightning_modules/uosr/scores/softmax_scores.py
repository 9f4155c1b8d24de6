"""Scores from the logits alone, in float64, larger = reject (code: out_of_distribution_detection.py).

`1 - max p` taken literally is exactly 0 for every confident sample, and ties then decide the order. So what is left
beside the top class is summed up directly, from log-probabilities.
"""

import torch
from jaxtyping import Float
from torch import Tensor

Scores = Float[Tensor, "n"]


def log_rest(logits: Float[Tensor, "n k"]) -> Scores:
    """Return ln(1 - max p), exact however confident the network is; -inf for one class."""
    log_p = logits.double().log_softmax(1)
    return log_p.scatter(1, log_p.argmax(1, keepdim=True), -torch.inf).logsumexp(1)


def msp(logits: Float[Tensor, "n k"]) -> Scores:
    """Return 1 - max p (maximum softmax probability), in [0, 1 - 1/k]."""
    return log_rest(logits).exp()


def max_logit(logits: Float[Tensor, "n k"]) -> Scores:
    """Return -max f."""
    return -logits.double().amax(1)


def energy(logits: Float[Tensor, "n k"]) -> Scores:
    """Return the free energy -logsumexp f."""
    return -logits.double().logsumexp(1)


def entropy(logits: Float[Tensor, "n k"]) -> Scores:
    """Return the entropy -sum p ln p of the softmax, in [0, ln k]."""
    log_p = _log_probabilities(logits)
    # p ln p of a probability that is zero in float64 is 0, not 0 * -inf.
    return -(log_p.exp() * log_p.clamp_min(torch.finfo(torch.float64).min)).sum(1)


def doctor(logits: Float[Tensor, "n k"]) -> Scores:
    """Return DOCTOR's (1 - sum p^2) / (sum p^2), in [0, k - 1]."""
    p = _log_probabilities(logits).exp()
    top = p.argmax(1, keepdim=True)
    rest = (1 - p).scatter(1, top, msp(logits).unsqueeze(1))
    return (p * rest).sum(1) / p.square().sum(1)


def _log_probabilities(logits: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
    """Return ln p with the top class as ln(1 - rest), which keeps the digits that p = 1 loses."""
    log_p = logits.double().log_softmax(1)
    return log_p.scatter(1, log_p.argmax(1, keepdim=True), torch.log1p(-msp(logits)).unsqueeze(1))
