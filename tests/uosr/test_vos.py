"""Virtual outliers: the real method (§2.3), and queues that a checkpoint carries."""

import torch
from torch.distributions import MultivariateNormal

from lightning_modules.uosr.objectives.vos import FeatureQueues
from networks.noise import BatchNoise
from tests.uosr.build import batch, built


def filled(queues, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    classes, length, size = queues.rows.shape
    spread = scale * torch.randn(size, size, generator=generator)
    rows = torch.randn(classes * length, size, generator=generator) @ spread
    labels = torch.arange(classes).repeat_interleave(length)
    queues.push(rows + 5 * labels[:, None], labels)
    return queues


def test_queues_keep_the_last_features_of_each_class():
    queues = FeatureQueues(2, 3, 1)
    values = torch.arange(1.0, 9.0)[:, None]
    labels = torch.tensor([0, 0, 1, 0, 0, 0, 1, 0])
    queues.push(values[:5], labels[:5])
    assert not queues.full
    queues.push(values[5:], labels[5:])
    assert sorted(queues.rows[0].flatten().tolist()) == [5.0, 6.0, 8.0]
    assert sorted(queues.rows[1].flatten().tolist()) == [0.0, 3.0, 7.0]
    assert not queues.full
    queues.push(values[:1], torch.tensor([1]))
    assert queues.full


def test_gaussians_are_means_and_shared_covariance():
    queues = filled(FeatureQueues(3, 50, 4))
    means, factor = queues.gaussians()
    centred = torch.cat([rows - rows.mean(0) for rows in queues.rows])
    covariance = centred.T @ centred / len(centred) + 1e-4 * torch.eye(4)
    assert torch.allclose(means, queues.rows.mean(1))
    assert torch.allclose(factor @ factor.T, covariance, rtol=1e-3, atol=1e-3)


def test_virtual_outliers_have_the_law_of_the_least_likely_draws():
    """Against the published way: draw many, keep those of least probability."""
    module = built("vos", vos={"num_candidates": 200, "select": 2})
    objective = module.objective
    objective.queues = filled(FeatureQueues(3, 60, 5))
    means, factor = objective.queues.gaussians()
    torch.manual_seed(0)
    drawn = []
    for step in range(400):
        objective.noise = BatchNoise(0, step)
        drawn.append(objective.synthesise().view(3, 2, 5))
    ours = torch.stack(drawn, 1).flatten(1, 2)
    for number in range(3):
        law = MultivariateNormal(means[number], scale_tril=factor)
        draws = law.sample((400, 200))
        theirs = torch.gather(draws, 1, law.log_prob(draws).topk(2, largest=False).indices[..., None].expand(-1, -1, 5))
        theirs = theirs.flatten(0, 1)
        wide = law.sample((1000,))
        for statistic in (law.log_prob, lambda x: (x - x.mean(0)).abs()):
            first, second = statistic(ours[number]), statistic(theirs)
            error = (first.var(0) / len(first) + second.var(0) / len(second)).sqrt()
            assert ((first.mean(0) - second.mean(0)).abs() < 5 * error).all()
        assert law.log_prob(ours[number]).max() < law.log_prob(wide).mean()


def test_no_outlier_image_is_used_and_the_term_starts_when_queues_are_full():
    module, made = built("vos"), batch(outliers=False)
    objective = module.objective
    objective.progress = 1.0
    plain = torch.nn.functional.cross_entropy(module.network.eval()(made["image"]).logits, made["label"])
    first = objective(module.network, made).total
    assert torch.isclose(first, plain), "queues were empty before this batch"
    assert objective.queues.full
    second = objective(module.network, made).total
    assert second > first
    objective.progress = 0.1
    assert torch.isclose(objective(module.network, made).total, plain), "before start_fraction there is no term"


def test_the_term_reaches_head_backbone_weights_and_logistic():
    module, made = built("vos"), batch(outliers=False)
    module.objective.progress = 1.0
    module.objective(module.network, made)
    module.zero_grad()
    module.objective(module.network, made).total.backward()
    for name in (
        "network.backbone.block1.0.weight",
        "network.head.weight",
        "objective.class_weights",
        "objective.logistic.weight",
    ):
        assert module.get_parameter(name).grad.abs().sum() > 0, name


def test_weighted_energy_by_hand():
    objective = built("vos").objective
    objective.class_weights.data = torch.tensor([1.0, 2.0, -3.0, 0.5])
    logits = torch.tensor([[0.0, 1.0, 9.0, 2.0]])
    expected = -torch.log(
        torch.exp(torch.tensor(0.0)) + 2 * torch.exp(torch.tensor(1.0)) + 0.5 * torch.exp(torch.tensor(2.0))
    )
    # A weight below zero counts as 1e-12, whose share at logit 9 is still nothing.
    assert torch.allclose(objective.energy(logits), expected, atol=1e-6)


def test_queues_travel_in_the_state():
    module, made = built("vos"), batch(outliers=False)
    module.objective(module.network, made)
    other = built("vos", seed=1)
    other.load_state_dict(module.state_dict())
    assert other.objective.queues.full
    assert torch.equal(other.objective.queues.rows, module.objective.queues.rows)
