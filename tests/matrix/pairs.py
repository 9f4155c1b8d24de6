"""Every model with all data: which pairs are accepted, and which are refused in one line that names data that fit.

`python -m tests.matrix.pairs` writes docs/data_matrix.json, from which docs/fill.py makes the table of docs/matrix.md.
"""

import json
from functools import cache
from typing import Any, NamedTuple

from harness.config.compose import options
from harness.config.data_fit import as_written, misfit, option
from harness.config.load import load
from harness.core.paths import ROOT

FILE = ROOT / "docs" / "data_matrix.json"
# The experiment from which a model is crossed with all data.
EXPERIMENTS = {
    "uosr": "uosr",
    "u_tuning": "u_tuning",
    "neural_dependency": "neural_dependency",
    "dvdp": "dvdp",
    "geod": "geod",
    "geod_eg3d": "geod_ffhq256",
    "geod_pigan": "geod_pigan",
    "geod_ir": "geod_ir",
    "geod_oracle": "geod_oracle",
    "linkgan": "linkgan_base",
    "linkgan_config_f": "linkgan_ffhq256",
    "linkgan_segmenter": "linkgan_objects_segmenter",
    "cones_pretrain": "cones_pretrain",
    "cones": "cones",
    "cones_union": "cones_pair",
    "label_features": "dvdp_features",
    "clip_fsar": "clip_fsar",
    "mini_clip": "clip_fsar_pretrain",
}
# The experiment of a pair for which the model has another network.
SPECIAL = {("neural_dependency", "cached_logits"): "neural_dependency_logits"}
SPECIAL |= {("clip_fsar", n): f"clip_fsar_{n}" for n in ("hmdb51", "k100", "ssv2_full", "ssv2_small", "ucf101")}
DATA = options("data")


class Pair(NamedTuple):
    """A model and an option of the data group."""

    model: str
    data: str

    @property
    def experiment(self) -> str:
        """The experiment that the pair is run by."""
        return SPECIAL.get(self, EXPERIMENTS[self.model])

    @property
    def overrides(self) -> list[str]:
        """The command line of the pair."""
        return [f"experiment={self.experiment}", f"data={self.data}"]


PAIRS = [Pair(model, data) for model in EXPERIMENTS for data in DATA]
# Eight pixels cannot be halved as often as the U-Net and the turning points ask for, which the model itself reports.
TOO_SMALL = {Pair("dvdp", "digits")}
# What a tiny run trains, of each model data that differ in kind: with and without classes, unknown ones, cameras, a
# truth, other splits, by path and rendered. Every DataModule is among them.
TRAINED_HERE = {
    "uosr": ("cifar100", "digits"),
    "u_tuning": ("vtab", "actor_stills", "digits", "fgvc", "shapes"),
    "neural_dependency": ("digits", "cached_logits", "cifar100", "digits_shifted", "imagenet"),
    "dvdp": ("picture_folder", "cifar10", "eg3d_zip", "glyphs_target", "heads_diverse", "lsun_church"),
    "geod": ("picture_shards", "cifar100_closed", "eg3d_zip"),
    "geod_eg3d": ("eg3d_zip",),
    "geod_pigan": ("picture_folder", "heads_diverse"),
    "geod_ir": ("picture_folder", "heads_diverse"),
    "geod_oracle": ("heads_diverse",),
    "linkgan": ("picture_zip", "heads"),
    "linkgan_config_f": ("picture_folder",),
    "label_features": ("heads_diverse",),
}
# The data of the experiments themselves, and of tests/*/test_paper_scale.py, which tests of the papers train with.
TRAINED_ELSEWHERE = {
    "uosr": ("shapes",),
    "u_tuning": ("digits_shifted",),
    "neural_dependency": ("shapes_closed",),
    "dvdp": ("scenes",),
    "geod": ("heads_diverse",),
    "linkgan": ("faces", "objects"),
    "linkgan_segmenter": ("objects",),
    "cones_pretrain": ("subject_scenes",),
    "cones": ("subject_pictures",),
    "cones_union": ("several_subjects",),
    "label_features": ("scenes", "faces", "objects", "subject_scenes"),
    "clip_fsar": ("actors", "ssv2_small"),
    "mini_clip": ("actor_stills",),
}


@cache
def _model(experiment: str) -> dict[str, Any]:
    # What is taken from the data is left open, as other data will be there.
    return as_written(load([f"experiment={experiment}"]).model)


def refusal(pair: Pair) -> str | None:
    """Return the line with which a pair is refused before anything is imported, None for one that is not."""
    return misfit(_model(pair.experiment), option(pair.data), pair._asdict())


def matrix() -> dict[str, dict[str, str]]:
    """Return of each model and option of data its experiment, or after "refused: " or "too small" why it has none."""
    found: dict[str, dict[str, str]] = {model: {} for model in EXPERIMENTS}
    for pair in PAIRS:
        line = refusal(pair)
        state = "too small" if pair in TOO_SMALL else pair.experiment
        found[pair.model][pair.data] = f"refused: {line}" if line else state
    return found


def page() -> dict[str, Any]:
    """Return what docs/data_matrix.json holds: the experiments, the matrix, and which pairs tests train."""
    parts = (TRAINED_HERE, TRAINED_ELSEWHERE)
    trained = {model: sorted(name for part in parts for name in part.get(model, ())) for model in EXPERIMENTS}
    return {"experiments": EXPERIMENTS, "matrix": matrix(), "trained": trained}


if __name__ == "__main__":
    FILE.write_text(json.dumps(page(), indent=1) + "\n")
