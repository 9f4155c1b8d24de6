"""Second moments of made-up logits, for the tests of the solvers."""

import numpy as np


def factor(categories, features, seed=0, mean=0.0):
    """X [features, categories] of logits that share super-classes and attributes; features < categories is singular."""
    rng = np.random.default_rng(seed)
    places = np.arange(categories)
    rows = rng.standard_normal((categories, features))
    for groups, share in ((4, 1.0), (16, 1.0)):
        rows += share * rng.standard_normal((groups, features))[places * groups // categories]
    attributes = rng.standard_normal((12, features))
    for _ in range(2):
        rows += attributes[rng.integers(12, size=categories)]
    # A falling spectrum makes it as ill-conditioned as trained logits are.
    rows *= np.arange(1, features + 1) ** -1.0
    rows[:, 0] += mean
    return rows.T * rng.uniform(0.5, 2.0, categories)


def gram(categories, features, seed=0, mean=0.0):
    rows = factor(categories, features, seed, mean)
    return rows.T @ rows


def residual(second, weights, targets):
    """r = c - Q w of every target, [T, K], at unit diagonal; the target itself is NaN."""
    scale = np.sqrt(np.where(second.diagonal() > 0, second.diagonal(), 1))
    rest = (second[targets] - weights @ second) / scale[targets, None] / scale
    rest[np.arange(len(targets)), targets] = np.nan
    return rest


def kkt(second, path):
    """Largest KKT violation of every alpha and target as a share of lam, made without the solver's own numbers."""
    scale = np.sqrt(np.where(second.diagonal() > 0, second.diagonal(), 1))
    off = np.abs(second / scale[:, None] / scale)
    np.fill_diagonal(off, 0)
    found = np.zeros(path.violation.shape)
    for a, weights in enumerate(path.weights):
        half = path.alphas[a] * off.max(1)[path.targets]
        rest, dense = residual(second, weights, path.targets), weights.toarray()
        active = np.abs(rest - half[:, None] * np.sign(dense))
        errors = np.where(dense != 0, active, np.maximum(np.abs(rest) - half[:, None], 0))
        found[a] = np.nanmax(errors, 1) / (2 * np.where(half > 0, half, 1))
    return found
