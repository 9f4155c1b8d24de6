"""Each objective is the published method: its loss by hand, its gradients, its state."""

import math

import pytest
import torch
from torch.nn import functional

from common.errors import UserError
from lightning_modules.uosr.network import Seen
from lightning_modules.uosr.objectives.objective import TwoStageObjective
from lightning_modules.uosr.objectives.outlier_exposure import EnergyHinge, OutlierExposure
from tests.uosr.build import CLASSES, OBJECTIVES, batch, built

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 3.0]])
OUTLIER_LOGITS = torch.tensor([[1.0, -1.0, 0.0]])
LABELS = torch.tensor([0, 1])


class Canned(torch.nn.Module):
    """A network whose logits are given."""

    def beside(self, images, outliers):
        return Seen(LOGITS, LOGITS), Seen(OUTLIER_LOGITS, OUTLIER_LOGITS)

    def forward(self, images):
        return Seen(LOGITS, LOGITS)


def lse(row):
    return math.log(sum(math.exp(v) for v in row))


CE_BY_HAND = ((lse([2.0, 0.0, -1.0]) - 2.0) + (lse([0.5, 0.5, 3.0]) - 0.5)) / 2
CANNED_BATCH = {"image": LOGITS, "label": LABELS, "outlier": OUTLIER_LOGITS}


def second_stage(module):
    module.objective.progress = 1.0
    return module


def touched(module, loss):
    """Return the names of the parameters that a loss gives a gradient that is not zero."""
    module.zero_grad()
    loss.backward()
    return {name for name, p in module.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}


# The losses, by hand.


def test_outlier_exposure_by_hand():
    loss = OutlierExposure({"weight": 0.5})(Canned(), CANNED_BATCH)
    assert loss.total.item() == pytest.approx(CE_BY_HAND + 0.5 * (lse([1.0, -1.0, 0.0]) - 0.0), abs=1e-6)
    assert loss.correct.tolist() == [True, False]


def test_energy_hinge_by_hand():
    loss = EnergyHinge({"weight": 0.01, "m_in": -2.5, "m_out": -1.0})(Canned(), CANNED_BATCH)
    inside = [max(0.0, -lse(row) + 2.5) ** 2 for row in LOGITS.tolist()]
    outside = max(0.0, -1.0 + lse([1.0, -1.0, 0.0])) ** 2
    assert inside[0] > 0
    assert inside[1] == 0
    assert loss.total.item() == pytest.approx(CE_BY_HAND + 0.01 * (sum(inside) / 2 + outside), abs=1e-6)


def test_background_class_is_a_softmax_over_one_class_more():
    module, made = built("eb"), batch(8)
    seen = module.network(torch.cat((made["image"], made["outlier"])))
    logits = torch.cat((seen.logits, module.objective.background(seen.features)), dim=1)
    labels = torch.cat((made["label"], torch.full((8,), CLASSES)))
    total = module.objective(module.network, made).total
    assert total.item() == pytest.approx(functional.cross_entropy(logits, labels).item(), abs=1e-6)
    module.eval()
    seen = module.network(made["image"])
    logits = torch.cat((seen.logits, module.objective.background(seen.features)), dim=1)
    expected = logits.double().softmax(dim=1)[:, -1]
    assert torch.allclose(module.objective.score(seen), expected, atol=1e-6)


@pytest.mark.parametrize("hints", [0.0, 1.0])
def test_learned_confidence_by_hand(hints):
    module, made = built("lc", lc={"hints": hints}), batch(8)
    seen = module.network(made["image"])
    c = torch.sigmoid(module.objective.branch(seen.features))
    p = seen.logits.softmax(dim=1)
    one_hot = functional.one_hot(made["label"], CLASSES)
    mixed = c[:, None] * p + (1 - c[:, None]) * one_hot if hints else p
    expected = functional.nll_loss(mixed.log(), made["label"]) - 0.1 * c.log().mean()
    assert module.objective(module.network, made).total.item() == pytest.approx(expected.item(), abs=1e-5)


def test_half_of_the_samples_are_given_hints():
    module, made = built("lc"), batch(64)
    totals = {round(module.objective(module.network.eval(), made).total.item(), 6) for _ in range(4)}
    assert len(totals) == 4, "which samples are given hints must change from step to step"


@pytest.mark.parametrize(("budget", "factor"), [(100.0, 1 / 1.01), (0.0, 1 / 0.99), (None, 1.0)])
def test_the_price_of_hints_follows_the_budget(budget, factor):
    module = built("lc", lc={"budget": budget})
    for _ in range(3):
        module.objective(module.network, batch(8))
    assert module.objective.state_dict()["weight"].item() == pytest.approx(0.1 * factor**3, rel=1e-5)


def test_right_or_wrong_by_hand():
    module, made = built("bce", bce={"weight": 2.0}), batch(8)
    seen = module.network(made["image"])
    right = (seen.logits.argmax(1) == made["label"]).float()
    c = torch.sigmoid(module.objective.branch(seen.features))
    beside = -(right * c.log() + (1 - right) * (1 - c).log()).mean()
    expected = functional.cross_entropy(seen.logits, made["label"]) + 2 * beside
    assert module.objective(module.network, made).total.item() == pytest.approx(expected.item(), abs=1e-5)


def test_true_class_probability_regresses_p_y():
    """The target is the softmax at the true class, not the maximum and not LC's loss (§2.3)."""
    module, made = second_stage(built("tcp")), batch(8)
    module.eval()
    seen = module.network(made["image"])
    target = torch.stack([row.softmax(0)[y] for row, y in zip(seen.logits, made["label"], strict=True)])
    assert not torch.allclose(target, seen.logits.softmax(1).amax(1)), "some sample must be wrong to tell them apart"
    expected = (torch.sigmoid(module.objective.branch(seen.features)) - target).square().mean()
    assert module.objective(module.network, made).total.item() == pytest.approx(expected.item(), abs=1e-6)


def test_proser_by_hand_without_mixing():
    module, made = second_stage(built("proser", proser={"data_weight": 0.3, "classifier_weight": 0.7})), batch(8)
    module.eval()
    made["image"][::2] = made["image"][0].clone()
    seen = module.network(made["image"])
    logits = torch.cat((seen.logits, module.objective.dummy(seen.features)), dim=1)
    rows = logits[1::2].tolist()
    labels = made["label"][1::2].tolist()
    clean = [lse(row) - row[y] for row, y in zip(rows, labels, strict=True)]
    masked = [lse(row[:y] + row[y + 1 :]) - row[-1] for row, y in zip(rows, labels, strict=True)]
    data = [lse(row) - row[-1] for row in logits[::2].tolist()]
    expected = sum(clean) / 4 + 0.3 * sum(data) / 4 + 0.7 * sum(masked) / 4
    assert module.objective(module.network, made).total.item() == pytest.approx(expected, abs=1e-5)


def test_proser_mixes_every_second_image_in_the_middle():
    module, made = second_stage(built("proser")), batch(8)
    module.eval()
    passed = []
    module.network.backbone.block3.register_forward_hook(lambda _m, inputs, _o: passed.append(inputs[0].detach()))
    module.objective(module.network, made)
    module.network(made["image"])
    mixed, plain = passed
    assert torch.equal(mixed[1::2], plain[1::2])
    lowest, highest = plain[::2].amin(0) - 1e-6, plain[::2].amax(0) + 1e-6
    assert ((mixed[::2] >= lowest) & (mixed[::2] <= highest)).all()
    assert not torch.allclose(mixed[::2], plain[::2])


# Gradients reach what they should and nothing else.

EVERYTHING = {name for name, _ in built().named_parameters()}
OWN = {
    "ce": set(),
    "oe": set(),
    "energy": set(),
    "eb": {"objective.background.weight", "objective.background.bias"},
    "lc": {f"objective.branch.{i}.{kind}" for i in (0, 2, 4) for kind in ("weight", "bias")},
    "bce": {f"objective.branch.{i}.{kind}" for i in (0, 2, 4) for kind in ("weight", "bias")},
    "tcp": set(),
    "vos": set(),
    "proser": set(),
}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_gradients_of_the_first_steps(objective):
    module = built(objective)
    reached = touched(module, module.objective(module.network, batch()).total)
    # A bias before batch norm has no influence.
    silent = {name for name in EVERYTHING - reached if name.endswith("bias")}
    assert reached | silent == EVERYTHING | OWN[objective]


def test_true_class_probability_freezes_the_classifier():
    """Backbone and head are frozen, batch-norm statistics included (§2.3)."""
    module = second_stage(built("tcp"))
    before = {name: value.clone() for name, value in module.network.state_dict().items()}
    reached = touched(module, module.objective(module.network, batch()).total)
    assert reached
    assert all(name.startswith("objective.branch.") for name in reached)
    assert all(torch.equal(before[name], value) for name, value in module.network.state_dict().items())


def test_placeholders_train_everything():
    module = second_stage(built("proser"))
    reached = touched(module, module.objective(module.network, batch()).total)
    assert {"objective.dummy.weight", "network.head.weight", "network.backbone.block1.0.weight"} <= reached


# §2.3: one forward pass for known images and outliers.


@pytest.mark.parametrize("objective", ["oe", "energy", "eb"])
def test_batch_norm_sees_known_images_and_outliers_together(objective):
    module, made = built(objective), batch()
    module.objective(module.network, made)
    norm = module.network.backbone.block1[1]
    assert norm.num_batches_tracked == 1
    together = module.network.backbone.block1[0](torch.cat((made["image"], made["outlier"])))
    assert torch.allclose(norm.running_mean, 0.1 * together.mean((0, 2, 3)), atol=1e-5)


@pytest.mark.parametrize("objective", ["oe", "energy", "eb"])
def test_missing_outliers_are_said_so(objective):
    module = built(objective)
    with pytest.raises(UserError, match=f"{objective}.*data.outliers=true"):
        module.objective(module.network, batch(outliers=False))


@pytest.mark.parametrize("objective", ["ce", "vos", "lc", "tcp", "bce", "proser"])
def test_the_others_do_without_outliers(objective):
    module = second_stage(built(objective))
    assert module.objective(module.network, batch(outliers=False)).total.isfinite()


# Stages and scores.


@pytest.mark.parametrize("objective", ["tcp", "proser"])
def test_the_second_stage_begins_at_its_share_or_with_a_trained_classifier(objective):
    module = built(objective)
    assert not module.objective.second_stage
    module.objective.progress = 0.5
    assert module.objective.second_stage
    started = built(objective, seed=1)
    started.start_from(built("ce").state_dict())
    assert started.objective.second_stage
    assert started.objective.state_dict()["first_stage_done"], "a resumed run has to know it too"


@pytest.mark.parametrize("objective", ["tcp", "proser"])
def test_weights_of_the_first_stage_are_never_chosen(objective):
    module, made = built(objective), batch()
    seen = module.network(made["image"])
    assert module.objective.quality(seen, made["label"]).max() <= 0
    second_stage(module)
    assert module.objective.quality(seen, made["label"]).min() >= 0


@pytest.mark.parametrize("ce_fraction", [-0.1, 1.0])
def test_a_share_that_leaves_no_second_stage_is_refused(ce_fraction):
    with pytest.raises(ValueError, match="ce_fraction"):
        TwoStageObjective(ce_fraction)


@pytest.mark.parametrize("objective", ["eb", "lc", "tcp", "bce", "proser"])
def test_own_scores_do_not_saturate(objective):
    """Confident samples keep their order, which float32 probabilities lose (§2.2)."""
    objective = built(objective).objective
    layer = getattr(objective, "background", None) or getattr(objective, "dummy", None) or objective.branch[-2]
    sign = -1.0 if objective.own_score in {"background", "dummy"} else 1.0
    layer.weight.data.zero_()
    scores = []
    for logit in (20.0, 40.0):
        layer.bias.data.fill_(sign * logit)
        scores.append(objective.score(Seen(torch.zeros(1, 256), torch.zeros(1, CLASSES))).item())
    assert scores[0] > scores[1] > 0
