"""The UOSR module through a real trainer: golden losses, checkpoints, schedules, and what a test leaves behind."""

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from common.errors import UserError
from harness.config.compose import options as experiments
from harness.config.load import load
from lightning_modules.uosr.module import UOSR
from lightning_modules.uosr.schedule import build_schedule
from lightning_modules.uosr.unified_metrics import METRICS, unified_metrics
from tests.uosr.build import CLASSES, LENGTHS, OBJECTIVES, World, built, options, stored_outputs, trainer

# Training losses of five steps, recorded from this code on the CPU.
GOLDEN = {
    "ce": [1.4943, 1.3356, 0.8318, 0.8487, 0.6792],
    "oe": [2.1111, 2.0233, 1.8615, 1.7225, 1.6687],
    "energy": [6.9583, 6.8535, 6.2138, 6.0370, 5.8378],
    "eb": [1.5535, 1.4160, 0.7151, 0.6640, 0.5978],
    "vos": [1.4943, 1.3356, 0.9088, 0.9241, 0.7594],
    "lc": [1.2539, 1.1203, 0.7582, 0.6790, 0.5973],
    "tcp": [1.4943, 1.0203, 1.0509, 0.1237, 0.1208],
    "bce": [2.3747, 2.1506, 1.4696, 1.5634, 1.3344],
    "proser": [1.4943, 1.0203, 1.0509, 2.2201, 1.3558],
}


class Losses(pl.Callback):
    def __init__(self):
        self.values = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        torch.manual_seed(trainer.global_step)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.values.append(outputs["loss"].item())


def module_of(objective="ce", **changes):
    torch.manual_seed(0)
    return UOSR(**options(objective, **changes))


@pytest.fixture(scope="module")
def tested(tmp_path_factory):
    """Return a trained and tested run of an objective: its folder, module and metrics."""
    done = {}

    def run(objective):
        if objective not in done:
            folder = tmp_path_factory.mktemp(objective)
            module, lightning = module_of(objective), trainer(folder, epochs=4)
            lightning.fit(module, World())
            lightning.test(module, World(), verbose=False)
            lightning.save_checkpoint(folder / "end.ckpt")
            done[objective] = folder, module, {k: float(v) for k, v in lightning.callback_metrics.items()}
        return done[objective]

    return run


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_golden_losses_of_five_steps(objective, tmp_path):
    losses = Losses()
    small = trainer(tmp_path, max_steps=5, limit_val_batches=0, callbacks=[losses])
    small.fit(module_of(objective), World())
    assert len(losses.values) == 5
    assert losses.values == pytest.approx(GOLDEN[objective], abs=2e-4)


def test_every_objective_starts_from_the_same_classifier():
    first = built().network.state_dict()
    for objective in OBJECTIVES[1:]:
        other = built(objective).network.state_dict()
        assert all(torch.equal(first[key], other[key]) for key in first), objective


# Checkpoints.


@pytest.mark.parametrize("objective", ["ce", "vos", "lc", "tcp"])
def test_a_checkpoint_needs_nothing_but_its_path(tested, objective):
    folder, module, _ = tested(objective)
    assert torch.load(folder / "end.ckpt", weights_only=True)["hyper_parameters"] == options(objective)
    loaded = UOSR.load_from_checkpoint(folder / "end.ckpt", weights_only=True)
    assert all(torch.equal(value, module.state_dict()[key]) for key, value in loaded.state_dict().items())
    assert loaded.hparams.objective == objective


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_any_objective_starts_from_a_softmax_checkpoint(objective):
    source, module = built(seed=1).state_dict(), built(objective)
    own = {k: v.clone() for k, v in module.objective.state_dict().items() if k != "first_stage_done"}
    module.start_from(source)
    assert all(torch.equal(value, module.state_dict()[key]) for key, value in source.items())
    assert all(torch.equal(value, module.objective.state_dict()[key]) for key, value in own.items())


def test_starting_from_the_same_objective_takes_its_layers_too():
    source, module = built("lc", seed=1), built("lc")
    module.start_from(source.state_dict())
    assert all(torch.equal(value, module.state_dict()[key]) for key, value in source.state_dict().items())


def test_another_objectives_branch_is_not_taken():
    source, module = built("lc", seed=1), built("tcp")
    before = module.objective.branch[0].weight.clone()
    module.start_from(source.state_dict())
    assert torch.equal(module.objective.branch[0].weight, before)
    assert torch.equal(module.network.head.weight, source.network.head.weight)


def test_weights_of_another_network_are_refused():
    with pytest.raises(RuntimeError):
        built().start_from(built(num_classes=7).state_dict())
    with pytest.raises(RuntimeError):
        built().start_from({"network.head.weight": torch.zeros(4, 256)})


def test_training_from_a_softmax_checkpoint_leaves_the_classifier_of_tcp_alone(tmp_path):
    module = module_of("tcp")
    module.configure_model()
    module.start_from(built(seed=3).state_dict())
    before = {key: value.clone() for key, value in module.state_dict().items()}
    trainer(tmp_path, epochs=1).fit(module, World())
    changed = {key for key, value in module.state_dict().items() if not torch.equal(value, before[key])}
    assert changed
    assert all(key.startswith("objective.branch.") for key in changed)


# Schedules.


def test_one_cycle_is_that_of_torch_and_starts_again_for_a_second_stage():
    schedule = options()["schedule"]
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=50, cycle_momentum=False)
    ours, twice = build_schedule(schedule, 50, 0), build_schedule(schedule, 100, 50)
    for step in range(50):
        assert ours(step) == pytest.approx(theirs.get_last_lr()[0], rel=1e-6, abs=1e-9)
        assert twice(step) == twice(step + 50) == ours(step)
        optimizer.step()
        if step < 49:
            theirs.step()


def test_steps_warm_up_and_fall_at_the_milestones():
    schedule = options()["schedule"] | {"name": "steps", "warmup_steps": 4, "milestones": [6, 8]}
    factor = build_schedule(schedule, 10, 0)
    assert [factor(step) for step in range(10)] == pytest.approx([0, 0.25, 0.5, 0.75, 1, 1, 0.1, 0.1, 0.01, 0.01])


def test_the_schedule_counts_optimizer_steps(tmp_path):
    module = module_of(
        optimizer={"name": "sgd", "lr": 0.1}, schedule={"name": "steps", "milestones": [4], "gamma": 0.5}
    )
    run = trainer(tmp_path, max_steps=5, limit_val_batches=0, accumulate_grad_batches=2, epochs=-1)
    run.fit(module, World())
    optimizer = run.optimizers[0]
    assert optimizer.defaults["nesterov"]
    assert run.global_step == 5
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.05)


def test_a_training_without_end_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"max_epochs or trainer\.max_steps"):
        trainer(tmp_path, epochs=-1).fit(module_of(), World())


# Validation and test.


def test_validation_means_are_over_samples_not_batches(tmp_path):
    module, lightning = built(), trainer(tmp_path)
    lightning.validate(module, World(), verbose=False)
    data = World().val_dataloader().dataset
    with torch.no_grad():
        logits = module.eval().network(data.images).logits
    right = 100 * (logits.argmax(1) == data.labels).float().mean().item()
    assert lightning.callback_metrics["val/acc"].item() == pytest.approx(right, abs=1e-6)
    loss = torch.nn.functional.cross_entropy(logits, data.labels).item()
    assert lightning.callback_metrics["val/loss"].item() == pytest.approx(loss, abs=1e-5)


@pytest.mark.parametrize("experiment", [name for name in experiments("experiment") if name.startswith("uosr")])
def test_the_tested_weights_are_chosen_on_the_validation_split(experiment, tmp_path):
    """What the checkpoint callback monitors is logged in validation, and from the validation loader (§3.2)."""
    monitored = load([f"experiment={experiment}"]).callbacks.best.monitor
    lightning = trainer(tmp_path)
    lightning.validate(built(), World(), verbose=False)
    assert monitored.startswith("val/")
    assert monitored in lightning.callback_metrics


def test_an_epoch_is_as_long_as_the_known_data(tmp_path):
    """Outliers cycle beside the known images and do not set the length (§2.3)."""
    run = trainer(tmp_path, epochs=1)
    run.fit(module_of("oe"), World())
    assert run.global_step == LENGTHS["train"] // 16


OWN_SCORES = {"eb": "background", "vos": "weighted_energy", "lc": "confidence", "tcp": "confidence", "proser": "dummy"}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_score_is_measured_and_logged(tested, objective):
    _, _, metrics = tested(objective)
    scores = {"msp", "energy", "odin", "vim", "sirc_h_res", "openmax", "fs_knns_1shot", "fs_knns_2shot", "ssd_1shot"}
    scores |= {OWN_SCORES[objective]} if objective in OWN_SCORES else set()
    for score in scores:
        assert {f"test/unknown/{score}/{name}" for name in METRICS} <= metrics.keys(), score
        assert all(np.isfinite(metrics[f"test/unknown/{score}/{name}"]) for name in METRICS)
    assert metrics["test/acc"] > 150 / CLASSES, "the classifier must have learned something"


def test_every_post_hoc_row_has_the_same_accuracy(tested):
    """One checkpoint for all rows (§3.2)."""
    _, _, metrics = tested("ce")
    accuracies = {value for key, value in metrics.items() if key.startswith("test/unknown/") and key.endswith("/acc")}
    assert accuracies == {metrics["test/acc"]}


def test_saved_scores_give_the_same_numbers_again(tested):
    """Accuracy and metrics recomputed from the score file, in the official layout (§2.6)."""
    folder, module, metrics = tested("ce")
    for score in ("msp", "odin", "knn"):
        with np.load(folder / "scores" / "unknown" / f"{score}.npz", allow_pickle=False) as file:
            saved = {name: file[name] for name in file.files}
        assert saved.keys() == {"ind_unctt", "ood_unctt", "ind_pred", "ood_pred", "ind_label", "ood_label"}
        again = unified_metrics(saved["ind_unctt"], saved["ind_pred"] == saved["ind_label"], saved["ood_unctt"])
        for name in METRICS:
            assert metrics[f"test/unknown/{score}/{name}"] == pytest.approx(again[name], rel=1e-5)
    known = World().test_dataloader()[1].dataset
    assert saved["ind_label"].tolist() == known.labels.tolist()
    with torch.no_grad():
        logits = module.eval().network(known.images).logits
    assert metrics["test/acc"] == pytest.approx(
        100 * (logits.argmax(1) == known.labels).double().mean().item(), rel=1e-6
    )


def test_outputs_are_those_of_the_network_in_order(tested):
    folder, module, _ = tested("lc")
    for name, length in LENGTHS.items():
        outputs = stored_outputs(folder / "outputs" / f"{name}.npz")
        assert outputs.extra["index"].tolist() == list(range(length))
        assert ("odin" in outputs.extra) == (name in {"known", "unknown"})
        assert outputs.logits.dtype == outputs.features.dtype == torch.float32
        assert outputs.extra["confidence"].dtype == torch.float64
    unknown = World().test_dataloader()[2].dataset
    with torch.no_grad():
        seen = module.eval().network(unknown.images)
    outputs = stored_outputs(folder / "outputs" / "unknown.npz")
    assert torch.allclose(outputs.logits, seen.logits, atol=1e-4)
    assert torch.allclose(module.network.head(outputs.features), outputs.logits, atol=1e-4)


def test_few_shot_parts_are_saved(tested):
    folder, _, _ = tested("ce")
    with np.load(folder / "scores" / "unknown" / "few_shot_2.npz", allow_pickle=False) as file:
        # 18 references of 3 classes: three tries of 2 shots.
        assert file["d_in"].shape == (3, LENGTHS["known"])
        assert file["d_ood"].shape == (3, LENGTHS["unknown"])


def test_scores_are_float32_under_bf16(tmp_path):
    module = built("lc")
    full, half = trainer(tmp_path / "full"), trainer(tmp_path / "half", precision="bf16-mixed")
    for run in (full, half):
        run.test(module, World(), verbose=False)
    for name in ("train", "unknown"):
        first, second = (stored_outputs(tmp_path / each / "outputs" / f"{name}.npz") for each in ("full", "half"))
        assert torch.equal(first.logits, second.logits)
        assert torch.equal(first.extra["confidence"], second.extra["confidence"])


def test_testing_changes_no_weight(tmp_path):
    module = built()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    trainer(tmp_path).test(module, World(), verbose=False)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())


def test_too_few_references_leave_the_row_out_and_say_so(tmp_path, capsys):
    run = trainer(tmp_path)
    run.test(built(shots=[1, 9]), World(), verbose=False)
    assert "no 9-shot scores: a class has 6 references only" in capsys.readouterr().out
    assert "test/unknown/fs_knns_1shot/uosr" in run.callback_metrics
    assert "test/unknown/fs_knns_9shot/uosr" not in run.callback_metrics


class LeakyWorld(World):
    """References of which one is tested too."""

    def test_dataloader(self):
        loaders = super().test_dataloader()
        loaders[3].dataset.images[0] = loaders[2].dataset.images[5]
        return loaders


def test_references_that_are_tested_too_are_refused(tmp_path):
    with pytest.raises(UserError, match="1 image"):
        trainer(tmp_path).test(built(), LeakyWorld(), verbose=False)
