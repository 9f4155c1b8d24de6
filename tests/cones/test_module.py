"""The search in the module: what moves, what is frozen, what the loss is made of, checkpoints and the test."""

import pytest
import pytorch_lightning as pl
import torch
from torch.func import functional_call

from common.errors import UserError
from lightning_modules.cones import module as cones_module
from lightning_modules.cones.concept_loss import concept_loss, fixed_loss, half_loss
from lightning_modules.cones.concept_masks import masked_weights
from lightning_modules.cones.module import Cones
from lightning_modules.cones.neuron_scope import candidate_layers, count_candidates
from lightning_modules.cones.scene_prompts import SceneOracle
from lightning_modules.cones.subject_report import SubjectJudge
from networks.label_features import LabelFeatures
from networks.noise import BatchNoise
from tests.cones.build import data_of, module_of, options_of


@pytest.fixture(autouse=True)
def _no_files(monkeypatch, tmp_path):
    """Take an untrained oracle, and pictures of the base's that no file keeps."""
    oracle = SceneOracle(LabelFeatures(3, [4, 6, 6, 4]).eval())
    monkeypatch.setattr(cones_module, "load_oracle", lambda path: oracle)
    monkeypatch.setattr(cones_module, "load_base", lambda model, options: None)


NOISE = BatchNoise(0, 0)
SMALL = {
    "prior": {"images": 6, "batch_size": 4},
    "sampler": {"steps": 2, "batch_size": 8},
    "evaluation": {"samples": 4, "loss_repeats": 1},
}


def fit(module, tmp_path, data=None, **options):
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        limit_val_batches=0,
        default_root_dir=tmp_path / "runs" / "cones" / "one",
        **options,
    )
    (tmp_path / "runs" / "cones" / "one").mkdir(parents=True, exist_ok=True)
    pl.seed_everything(1)
    trainer.fit(module, datamodule=data or data_of())
    return trainer


def test_the_scope_counts_are_those_of_the_architecture():
    module = module_of()
    assert sum(p.numel() for p in module.base.network.parameters()) == 720_252
    unet = module.base.network.unet
    assert count_candidates(candidate_layers(unet, "cross")) == 36_864
    names = {name for scope in ("cross", "self") for name in candidate_layers(unet, scope)}
    assert names == set(candidate_layers(unet, "cross+self"))
    assert all(name.endswith(("attn2.to_k.weight", "attn2.to_v.weight")) for name in candidate_layers(unet, "cross"))


@pytest.mark.parametrize(("scope", "matrices", "scalars"), [("cross", 32, 19_169_280), ("cross+self", 64, 43_950_080)])
def test_stable_diffusion_has_the_known_candidates(scope, matrices, scalars):
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
    layers = candidate_layers(unet, scope)
    assert (len(layers), count_candidates(layers)) == (matrices, scalars)


def test_blocks_of_several_transformer_layers_are_counted_whole():
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(
            block_out_channels=(32, 64),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 3),
            layers_per_block=1,
            cross_attention_dim=16,
            norm_num_groups=8,
        )
    layers = candidate_layers(unet, "cross")
    # One attention on the way down, one in the middle and two on the way up, each of three layers with K and V.
    assert len(layers) == 2 * 3 * 4
    assert count_candidates(layers) == 24 * 16 * 64


def test_gradients_reach_the_masks_alone():
    module = module_of(**SMALL)
    assert {name.split(".")[0] for name, p in module.named_parameters() if p.requires_grad} == {"masks"}
    images = data_of().source("fit").fetch([0, 1])["image"]
    conditions = module.base.conditions(["V1 circle"]), module.base.conditions(["circle"])
    concept_loss(module.base, module._network(), conditions, images, images, 1.0, NOISE)[0].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.masks.parameters())
    assert all(p.grad is None for p in module.base.parameters())


def test_a_mask_of_ones_is_the_base():
    module = module_of()
    x, times = torch.randn(2, 3, 16, 16), torch.tensor([10, 900])
    conditions = module.base.conditions(["V1 circle", "red square on grey"])
    expected = module.base.network(x, times, conditions)
    assert torch.equal(module._network()(x, times, conditions), expected)
    with torch.no_grad():
        module.masks[0].mask.zero_()
    weights = {f"unet.{name}": weight for name, weight in masked_weights(module.layers, module.masks).items()}
    shut = functional_call(module.base.network, weights, (x, times, conditions))
    assert not torch.equal(shut, expected)


def test_each_half_of_the_loss_is_a_mean_of_its_own():
    module = module_of()
    network = module.base.network
    images = data_of().source("fit").fetch(range(4))["image"]
    conditions = module.base.conditions(["V1 circle"]), module.base.conditions(["circle"])
    twice = images.repeat(2, 1, 1, 1)
    times, noise = torch.tensor([100, 400, 600, 900]), torch.randn_like(images)
    once = half_loss(module.base, network, conditions[1], images, times, noise)
    doubled = half_loss(module.base, network, conditions[1], twice, times.repeat(2), noise.repeat(2, 1, 1, 1))
    torch.testing.assert_close(once, doubled)
    loss, own, kept = concept_loss(module.base, network, conditions, images, images, 1.0, NOISE)
    torch.testing.assert_close(loss, own + kept)
    alone, _, none = concept_loss(module.base, network, conditions, images, images, 0.0, NOISE)
    torch.testing.assert_close(alone, own)
    assert float(none) == 0


def test_the_prior_changes_what_is_found(tmp_path):
    hashes = set()
    for weight in (0.0, 1.0):
        module = module_of(**SMALL | {"prior": {"weight": weight, "images": 6, "batch_size": 4}})
        fit(module, tmp_path)
        hashes.add(module.cluster(0.05).hash())
    assert len(hashes) == 2


def test_statistics_are_float32_under_autocast(tmp_path):
    module = module_of(**SMALL)
    fit(module, tmp_path, precision="bf16-mixed")
    assert all(mask.statistic.dtype == mask.mask.dtype == torch.float32 for mask in module.masks)
    zeros = sum(int((mask.statistic == 0).sum()) for mask in module.masks)
    assert zeros < 0.01 * 36_864


def test_what_is_applied_is_the_base_or_zero(tmp_path):
    module = module_of(**SMALL)
    before = {name: tensor.clone() for name, tensor in module.base.state_dict().items()}
    fit(module, tmp_path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.base.state_dict().items())
    cluster, layers = module.cluster(0.02), module.layers
    assert len(cluster) == round(0.02 * 36_864)
    with cluster.applied(layers):
        for name, tensor in module.base.state_dict().items():
            inner = name.removeprefix("network.unet.")
            kept = torch.ones(tensor.numel(), dtype=torch.bool)
            if inner in layers:
                kept[cluster.indices.get(inner, torch.zeros(0)).long()] = False
            assert torch.equal(tensor.flatten(), before[name].flatten() * kept.to(tensor.dtype))
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.base.state_dict().items())


def test_two_searches_of_one_seed_are_equal_and_a_checkpoint_holds_the_statistic(tmp_path):
    first, second = module_of(**SMALL), module_of(**SMALL)
    trainer = fit(first, tmp_path)
    fit(second, tmp_path)
    assert first.cluster(0.02).hash() == second.cluster(0.02).hash()
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    loaded = Cones.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    for fraction in (0.005, 0.1):
        assert loaded.cluster(fraction).hash() == first.cluster(fraction).hash()


def test_the_module_stays_in_eval_mode(tmp_path):
    module = module_of(**SMALL)
    seen = []
    step = module.training_step
    module.training_step = lambda *args: (seen.append(any(each.training for each in module.modules())), step(*args))[1]
    fit(module, tmp_path)
    assert seen == [False] * 3


@pytest.mark.parametrize(
    ("adapt", "trained"),
    [("key_value", 36_864), ("unet", 720_252), ("identifier", 64)],
)
def test_a_baseline_moves_its_weights_alone(tmp_path, adapt, trained):
    module = module_of(adapt=adapt, **SMALL)
    before = {name: tensor.clone() for name, tensor in module.base.state_dict().items()}
    fit(module, tmp_path)
    moved = sum(int((tensor != before[name]).sum()) for name, tensor in module.base.state_dict().items())
    assert 0.9 * trained < moved <= trained
    if adapt == "identifier":
        place = module.base.token_of("V1")
        same = module.base.embedding.weight == before["text.embedding.weight"]
        assert not same[place].all()
        assert same[:place].all()
        assert same[place + 1 :].all()


def test_the_fraction_with_the_lowest_held_out_loss_is_chosen(tmp_path):
    module = module_of(**SMALL)
    trainer = fit(module, tmp_path)
    with torch.no_grad():
        chosen, findings = module._chosen()
    rows = findings.tables["fractions"].rows
    assert len(rows) == 5
    best = min(rows, key=lambda row: row[3])[0]
    assert findings.metrics["test/fraction"] == best
    assert len(chosen) == max(1, round(best * 36_864))
    assert trainer.global_step == 3


def test_losses_on_fixed_noise_are_the_same_each_time():
    module = module_of()
    images = data_of().source("val").fetch(range(4))["image"]
    conditions = module.base.conditions(["V1 circle"])
    torch.manual_seed(0)
    first = fixed_loss(module.base, conditions, images, repeats=2, seed=3)
    torch.manual_seed(9)
    assert fixed_loss(module.base, conditions, images, repeats=2, seed=3) == first
    assert fixed_loss(module.base, conditions, images, repeats=2, seed=4) != first


def test_the_test_saves_the_cluster_and_logs_what_it_stores(tmp_path):
    module = module_of(**SMALL)
    data = data_of(held_out=4)
    trainer = fit(module, tmp_path, data)
    results = trainer.test(module, datamodule=data, verbose=False)[0]
    assert (tmp_path / "runs" / "cones" / "one" / "cluster.safetensors").is_file()
    assert results["test/bytes"] == 4 * results["test/shut"]
    assert results["test/bytes_ratio"] == pytest.approx(results["test/shut_percent"] / 100, rel=1e-5)
    names = {"fidelity", "class", "outer", "inner", "context", "leak", "diversity", "class_kept", "loss_subject"}
    assert names <= {name.removeprefix("test/") for name in results}
    assert list((tmp_path / "runs" / ".class_images").iterdir())


def test_samples_follow_prompt_cluster_and_fraction(tmp_path):
    module = module_of(**SMALL)
    fit(module, tmp_path)
    asked = dict(Cones.sample_options) | {"count": 3, "prompt": "V1 circle and V2 square", "steps": 2}
    images = torch.cat(list(module.generate(asked)))
    assert images.shape == (3, 3, 16, 32)
    module.cluster(0.02).save(tmp_path / "own.safetensors")
    by_fraction = torch.cat(list(module.generate(asked | {"fraction": 0.02})))
    by_file = torch.cat(list(module.generate(asked | {"concepts": [str(tmp_path / "own.safetensors")]})))
    assert torch.equal(by_fraction, by_file)
    assert not torch.equal(by_fraction, torch.cat(list(module.generate(asked | {"fraction": 0.3}))))
    with pytest.raises(UserError, match=r"no word .cirle. .*did you mean circle"):
        list(module.generate(asked | {"prompt": "V1 cirle"}))


def test_prompts_of_the_judge_name_no_attribute_of_the_subject():
    data, words = data_of(), options_of("cones")["evaluation"]["words"]
    subject = data.subjects[0]
    assert not set(words["colors"]) & set(f"{subject.prompt} {subject.class_prompt}".split())
    assert set(SubjectJudge.__dataclass_fields__) == {"oracle", "options", "side", "seed", "samples"}
