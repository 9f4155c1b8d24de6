"""Every file of every group composes, passes the check, and every experiment has a tiny twin."""

import pytest

from harness.config.check import errors_in
from harness.config.compose import options
from harness.config.load import load
from harness.core.paths import CONF

GROUPS = ("model", "data", "tuner", "hardware", "trainer", "callbacks", "logger", "debug", "claim", "hydra/launcher")
EXPERIMENTS = options("experiment")
# The run of each experiment's tiny twin: on data that are here (tests/cli), or in test_paper_scale.py on miniatures.
RUN_HERE = {"uosr", "uosr_oe", "uosr_pretrain", "uosr_pretrained", "uosr_digits"}
RUN_HERE |= {"u_tuning", "u_tuning_pretrain", "u_tuning_glyphs"}
RUN_HERE |= {"neural_dependency"} | {
    f"neural_dependency_{n}" for n in ("mlp", "patterns", "between", "unseen", "regularizer")
}
RUN_HERE |= {"dvdp"} | {f"dvdp_{name}" for name in ("ddpm", "early", "short", "features")}
RUN_HERE |= {"dvdp32", "dvdp32_ddpm", "dvdp32_late"}
RUN_HERE |= {"geod"} | {
    f"geod_{name}" for name in ("base", "joint", "shuffled", "untrained", "ir", "oracle", "features")
}
RUN_HERE |= {"clip_fsar"} | {
    f"clip_fsar_{name}" for name in ("pretrain", "frozen", "no_text", "modulation", "video_text")
}
RUN_HERE |= {"linkgan"} | {f"linkgan_{name}" for name in ("base", "quadrants", "features", "objects", "objects_base")}
RUN_HERE |= {f"linkgan_objects_{name}" for name in ("features", "segmenter")}
RUN_HERE |= {"cones"} | {
    f"cones_{name}" for name in ("pretrain", "oracle", "pair", "many", "finetune", "dreambooth", "textual_inversion")
}
RUN_ON_MINIATURES = {"uosr_cifar100", "uosr_cifar100_bit", "u_tuning_cifar100"}
RUN_ON_MINIATURES |= {f"u_tuning_{name}" for name in ("cub", "nabirds", "flowers", "dogs", "cars")}
RUN_ON_MINIATURES |= {"neural_dependency_imagenet", "neural_dependency_logits"}
RUN_ON_MINIATURES |= {f"dvdp_{name}" for name in ("ffhq256", "ffhq1024", "lsun_church256", "cifar10")}
RUN_ON_MINIATURES |= {f"geod_{name}" for name in ("ffhq256", "cats256", "shapenet_cars", "pigan")}
RUN_ON_MINIATURES |= {f"clip_fsar_{name}" for name in ("hmdb51", "ucf101", "k100", "ssv2_full", "ssv2_small")}
RUN_ON_MINIATURES |= {f"linkgan_{name}" for name in ("ffhq256", "church256", "car", "afhq")}
# Data for another protocol than that of experiment=uosr.
GOES_WITH = {"shapes_pretrain": "uosr_pretrain", "glyphs": "u_tuning_pretrain", "glyphs_target": "u_tuning_glyphs"}
GOES_WITH |= {"digits_shifted": "u_tuning", "cifar100_closed": "u_tuning_cifar100", "fgvc": "u_tuning_cub"}
GOES_WITH |= {"vtab": "u_tuning_cifar100", "u_tuning": "u_tuning"}
GOES_WITH |= {
    "shapes_closed": "neural_dependency",
    "patterns": "neural_dependency",
    "neural_dependency": "neural_dependency",
}
GOES_WITH |= {"imagenet": "neural_dependency_imagenet", "cached_logits": "neural_dependency_logits"}
GOES_WITH |= dict.fromkeys(("dvdp", "scenes", "ffhq", "picture_folder", "lsun_church", "cifar10"), "dvdp")
GOES_WITH |= {"picture_shards": "dvdp", "label_features": "dvdp_features"}
GOES_WITH |= dict.fromkeys(("geod", "geod_eg3d", "heads", "heads_diverse", "heads_asymmetric", "eg3d_zip"), "geod")
GOES_WITH |= {"heads_large": "geod_ir", "celeba": "geod_pigan"}
GOES_WITH |= {f"geod_{name}": f"geod_{name}" for name in ("ir", "oracle", "pigan")}
GOES_WITH |= {"clip_fsar": "clip_fsar", "actors": "clip_fsar"}
GOES_WITH |= {name: f"clip_fsar_{name}" for name in ("hmdb51", "ucf101", "k100", "ssv2_full", "ssv2_small")}
GOES_WITH |= dict.fromkeys(("mini_clip", "actor_stills"), "clip_fsar_pretrain")
GOES_WITH |= dict.fromkeys(("linkgan", "faces"), "linkgan") | {"linkgan_config_f": "linkgan_ffhq256"}
GOES_WITH |= {"objects": "linkgan_objects", "linkgan_segmenter": "linkgan_objects_segmenter"}
GOES_WITH |= {"cones": "cones", "cones_pretrain": "cones_pretrain", "cones_union": "cones_pair"}
GOES_WITH |= {"subject_scenes": "cones_pretrain", "subject_pictures": "cones", "several_subjects": "cones_pair"}
GOES_WITH |= {"picture_zip": "linkgan_ffhq256"}


def test_every_experiment_is_run_somewhere_in_these_tests():
    assert set(EXPERIMENTS) == RUN_HERE | RUN_ON_MINIATURES


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_passes_the_check_and_says_what_it_is(experiment):
    config = load([f"experiment={experiment}"])
    assert errors_in(config, [f"experiment={experiment}"]) == []
    assert config.description
    assert config.runtime
    assert config.headline


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_tiny_twin_passes_the_check(experiment):
    words = [f"experiment={experiment}", "debug=tiny"]
    assert errors_in(load(words), words) == []


@pytest.mark.parametrize(("group", "option"), [(group, option) for group in GROUPS for option in options(group)])
def test_every_option_composes(group, option):
    experiment = GOES_WITH.get(option, "uosr") if group in {"data", "model"} else "uosr"
    words = [f"experiment={experiment}", f"{group}={option}"]
    assert errors_in(load(words), words) == []


def test_no_config_file_is_outside_the_groups():
    known = {"config", *options("experiment"), *options("model/parts")} | {
        option for group in GROUPS for option in options(group)
    }
    assert {path.stem for path in CONF.rglob("*.yaml")} <= known
