"""Logits with a known structure: attributes that categories share, as in the rendered shapes."""

import numpy as np
import torch


def attributes(categories, seed=0, kinds=(4, 4, 4)):
    """Distinct triples of attributes, int [k, 3]."""
    order = np.random.default_rng(seed).permutation(int(np.prod(kinds)))[:categories]
    return np.stack(np.unravel_index(order, kinds), axis=1)


def shared(of):
    return (of[:, None] == of[None]).sum(axis=2)


def logits(count, categories=24, noise=0.5, seed=0):
    """Return logits float32 [n, k] that are sums of attribute scores, labels [n], and the attributes [k, 3]."""
    of = attributes(categories)
    rng = np.random.default_rng(seed)
    labels = rng.integers(categories, size=count)
    found = noise * rng.standard_normal((count, categories)) - 5
    for axis in range(3):
        scores = rng.standard_normal((count, of[:, axis].max() + 1))
        scores[np.arange(count), of[labels, axis]] += 3
        found += scores[:, of[:, axis]]
    return torch.from_numpy(found.astype(np.float32)), torch.from_numpy(labels), of


def least_squares(found):
    """Return the dense, centred least-squares coefficients [k, k] and intercepts [k] of every logit from all others."""
    found = np.asarray(found, np.float64)
    mean = found.mean(axis=0)
    precision = np.linalg.inv(np.cov(found.T) + 1e-9 * np.eye(found.shape[1]))
    weights = -precision / np.diag(precision)[:, None]
    np.fill_diagonal(weights, 0)
    return weights, mean - weights @ mean
