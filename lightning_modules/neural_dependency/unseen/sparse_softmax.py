"""Softmax regression of new categories against frozen rivals, with an L1 term, by accelerated proximal gradient steps.

FISTA with a step length that is searched and a momentum that restarts (Beck & Teboulle 2009, O'Donoghue & Candes 2015).
"""

import torch
from torch import Tensor

# Factor by which a step is tried to be longer than the last.
_GROWTH = 1.1


class SparseSoftmax:
    """The objective: its smooth part, and the proximal step of the rest.

    Args:
        design: [n, d + 1], inputs and a last column of ones for the intercept, float64.
        base: [n], log-sum-exp of the base logits.
        targets: int [n], number of the new category, negative for base samples.
        weights: [n], of the samples, summing to 1.
        num_new: number c of new categories.
        l1: strength of sum |theta|.
        ridge: strength of sum theta^2 / 2.
    """

    def __init__(
        self, design: Tensor, base: Tensor, targets: Tensor, weights: Tensor, num_new: int, l1: float, ridge: float
    ) -> None:
        self.design, self.base, self.weights, self.l1, self.ridge = design, base[:, None], weights[:, None], l1, ridge
        self.hot = torch.zeros(len(design), num_new, dtype=torch.float64, device=design.device)
        new = torch.nonzero(targets >= 0).flatten()
        self.hot[new, targets[new]] = 1
        self.shape = (num_new, design.shape[1])
        # The Hessian of a softmax is at most 1/2; this is a safe first step, and usually far too short.
        gram = (design * self.weights).T @ design
        self.step = 1 / (0.5 * torch.linalg.eigvalsh(gram)[-1].item() + ridge)

    def value(self, theta: Tensor, *, gradient: bool = False) -> tuple[float, Tensor | None]:
        """Return cross-entropy plus ridge and, if asked for, its gradient [c, d + 1]."""
        # All base logits together act as one rival, whose log-sum-exp is known.
        log_p = torch.cat([self.base, self.design @ theta.T], dim=1).log_softmax(dim=1)
        # What a base sample loses does not depend on which base category it is of, up to a constant.
        own = (log_p[:, 1:] * self.hot).sum(1) + log_p[:, 0] * (1 - self.hot.sum(1))
        loss = -(own * self.weights[:, 0]).sum() + self.ridge / 2 * (theta[:, :-1] ** 2).sum()
        if not gradient:
            return loss.item(), None
        slope = ((log_p[:, 1:].exp() - self.hot) * self.weights).T @ self.design
        slope[:, :-1] += self.ridge * theta[:, :-1]
        return loss.item(), slope

    def proximal(self, theta: Tensor, step: float) -> Tensor:
        """Return theta with its coefficients, the intercept left out, drawn towards zero by one step's share."""
        coefficients, intercept = theta[:, :-1], theta[:, -1:]
        shrunk = coefficients.sign() * (coefficients.abs() - step * self.l1).clamp_min(0)
        return torch.cat([shrunk, intercept], dim=1)

    def descend(self, ahead: Tensor) -> Tensor:
        """Return the point one proximal step on; the step grows, and is halved until it is safe."""
        loss, slope = self.value(ahead, gradient=True)
        assert slope is not None
        self.step *= _GROWTH
        while True:
            moved = self.proximal(ahead - self.step * slope, self.step)
            change = moved - ahead
            bound = loss + float((slope * change).sum()) + float((change**2).sum()) / (2 * self.step)
            # The slack is rounding: near the minimum both sides agree in all their digits.
            if self.value(moved)[0] <= bound + 1e-12 * abs(loss):
                return moved
            self.step /= 2


def fista(problem: SparseSoftmax, steps: int, tolerance: float) -> tuple[Tensor, int, float]:
    """Return the minimum theta [c, d + 1], the steps taken, and by how much the optimality conditions fail.

    Args:
        problem: what is minimised; the search starts from zero.
        steps: at most so many.
        tolerance: it ends when the conditions hold to this, in the unit of the gradient.
    """
    theta = torch.zeros(problem.shape, dtype=torch.float64, device=problem.design.device)
    ahead, pace, violation = theta, 1.0, float("inf")
    for taken in range(1, steps + 1):
        moved = problem.descend(ahead)
        violation = float((moved - ahead).abs().max()) / problem.step
        if violation < tolerance:
            return moved, taken, violation
        # Momentum that points uphill is dropped.
        restarts = float(((ahead - moved) * (moved - theta)).sum()) > 0
        following = 1.0 if restarts else (1 + (1 + 4 * pace**2) ** 0.5) / 2
        ahead = moved if restarts else moved + (pace - 1) / following * (moved - theta)
        theta, pace = moved, following
    return theta, steps, violation
