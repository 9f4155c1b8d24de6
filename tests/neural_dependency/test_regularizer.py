import pytest
import torch

from lightning_modules.neural_dependency.regularizer import DependencyRegularizer
from tests.neural_dependency.synthetic import least_squares, logits, shared


@pytest.fixture
def case():
    found, _, of = logits(3000)
    weights, _ = least_squares(found)
    irrelevant = torch.from_numpy(shared(of) == 0)
    return found, torch.from_numpy(weights), irrelevant


def test_keep_is_the_mean_share_of_variance_unexplained(case):
    found, theta, _ = case
    f = found.double()
    true = ((f - f @ theta.float().double().T).var(0, correction=0) / f.var(0, correction=0)).mean()
    assert DependencyRegularizer(theta, "keep")(found) == pytest.approx(true.item(), rel=1e-5)


def test_cut_is_the_mean_squared_correlation_with_what_is_irrelevant(case):
    found, theta, irrelevant = case
    u = found.double() @ (theta * irrelevant).T
    true = [torch.corrcoef(torch.stack([found[:, i].double(), u[:, i]]))[0, 1] ** 2 for i in range(24)]
    assert DependencyRegularizer(theta, "cut", irrelevant)(found) == pytest.approx(
        torch.stack(true).mean().item(), rel=1e-5
    )
    # A category without an irrelevant source does not count.
    fewer = irrelevant.clone()
    fewer[:20] = False
    expected = torch.stack(true[20:]).mean().item()
    assert DependencyRegularizer(theta, "cut", fewer)(found) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("mode", ["keep", "cut"])
def test_descending_it_does_what_it_says(case, mode):
    found, theta, irrelevant = case
    regularizer = DependencyRegularizer(theta, mode, irrelevant if mode == "cut" else None)
    mixing = torch.eye(24, requires_grad=True)
    optimizer = torch.optim.Adam([mixing], lr=0.01)
    values = []
    for _ in range(40):
        optimizer.zero_grad()
        value = regularizer(found @ mixing.T)
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.7 * values[0]


def test_theta_is_a_fixed_buffer_that_travels_in_the_checkpoint(case):
    # §2.8: neither trained, nor computed anew from the batch, nor in the graph of the gradient.
    found, theta, _ = case
    source = theta.clone().requires_grad_()
    regularizer = DependencyRegularizer(source, "keep", momentum=0.5)
    before = regularizer.theta.clone()
    assert list(regularizer.parameters()) == []
    assert not regularizer.theta.requires_grad
    batch = found[:500].clone().requires_grad_()
    regularizer(batch).backward()
    assert source.grad is None
    assert batch.grad.abs().sum() > 0
    assert torch.equal(regularizer.theta, before)
    with torch.no_grad():
        source.zero_()
    assert torch.equal(regularizer.theta, before)
    other = DependencyRegularizer(torch.rand(24, 24) * (1 - torch.eye(24)), "keep", momentum=0.5)
    other.load_state_dict(regularizer.state_dict())
    regularizer.eval()
    assert torch.equal(other.eval()(found), regularizer(found))


def test_smoothed_moments_are_less_noisy_and_keep_the_gradient(case):
    found, theta, _ = case
    whole = DependencyRegularizer(theta, "keep")(found).item()
    plain, smooth = DependencyRegularizer(theta, "keep"), DependencyRegularizer(theta, "keep", momentum=0.9)
    errors = {"plain": [], "smooth": []}
    for batch in found.split(64):
        for name, regularizer in (("plain", plain), ("smooth", smooth)):
            errors[name].append(abs(regularizer(batch).item() - whole))
    assert sum(errors["smooth"][20:]) < 0.5 * sum(errors["plain"][20:])
    # At the same moments the gradient is the batch's own, not a tenth of it.
    batch = found.clone().requires_grad_()
    fresh = DependencyRegularizer(theta, "keep", momentum=0.9)
    fresh(found)
    (expected,) = torch.autograd.grad(DependencyRegularizer(theta, "keep")(batch), batch)
    (gradient,) = torch.autograd.grad(fresh(batch), batch)
    assert torch.allclose(gradient, expected, rtol=1e-4, atol=1e-9)


def test_evaluation_moves_nothing_and_dead_logits_raise_nothing(case):
    found, theta, irrelevant = case
    regularizer = DependencyRegularizer(theta, "cut", irrelevant, momentum=0.9).eval()
    regularizer(found)
    assert regularizer.batches == 0
    dead = found.clone()
    dead[:, 3] = 1.0
    dead.requires_grad_()
    for mode in ("keep", "cut"):
        value = DependencyRegularizer(theta, mode, irrelevant)(dead)
        value.backward()
        assert torch.isfinite(value)
        assert torch.isfinite(dead.grad).all()


def test_half_precision_and_a_large_mean_do_not_hurt(case):
    found, theta, _ = case
    regularizer = DependencyRegularizer(theta, "keep")
    true = regularizer(found).item()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert regularizer(found).item() == pytest.approx(true, rel=1e-6)
    assert regularizer(found + 1000).item() == pytest.approx(true, rel=1e-2)


def test_what_does_not_fit_is_refused(case):
    _, theta, irrelevant = case
    for said, arguments in (
        ("no regularizer 'drop'", (theta, "drop")),
        ("zeros on the diagonal", (theta + torch.eye(24), "keep")),
        ("cut needs to know", (theta, "cut")),
        ("nothing to cut", (theta, "cut", torch.zeros_like(irrelevant))),
        ("the momentum is 1", (theta, "keep", None, 1.0)),
    ):
        with pytest.raises(ValueError, match=said):
            DependencyRegularizer(*arguments)
