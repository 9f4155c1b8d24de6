"""Which tuner goes with which family of networks: tried out, and compared with docs/tuner_matrix.json.

`python -m tests.tuners.test_compatibility` writes that file anew; `python docs/fill.py` takes it into docs/tuners.md.
"""

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import open_clip
import pytest
import timm
import torch
from omegaconf import OmegaConf
from timm.layers import StdConv2d
from torch import nn

from common.errors import UserError
from common.targets import build_target
from networks.small_conv_net import SITE_PATTERNS, SmallConvNet
from tests.tuners.members import Model, hooks_on
from tests.tuners.u_backbones import CLIP, Case, build
from tuners.tuner import Tuner

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docs/tuner_matrix.json"
AGAIN = "run python -m tests.tuners.test_compatibility, look at what changed, then python docs/fill.py"
NAMES = sorted(path.stem for path in (ROOT / "conf/tuner").glob("*.yaml") if path.stem != "none")


def _built(builder: Callable[[], nn.Module], size: int) -> Case:
    """Return a network and two images; every weight takes part, those that start at zero too."""
    torch.manual_seed(0)
    network = builder().eval().requires_grad_(False)
    for parameter in network.parameters():
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    return Case(network, (torch.randn(2, 3, size, size),), {})


DEIT = {"img_size": 16, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 4, "num_classes": 0}
SWIN = {"embed_dim": 8, "depths": (2, 2), "num_heads": (2, 2), "window_size": 4, "num_classes": 0}
FAMILIES: dict[str, Callable[[], Case]] = {
    "ViT": partial(build, "timm_vit"),
    "DeiT": lambda: _built(lambda: timm.models.deit.VisionTransformerDistilled(**DEIT), 16),
    "EVA": partial(build, "timm_eva"),
    "open_clip ViT": lambda: _built(lambda: open_clip.CLIP(**CLIP).visual, 16),
    "Swin": lambda: _built(lambda: timm.models.SwinTransformer(32, 4, **SWIN), 32),
    "ConvNeXt": partial(build, "timm_convnext"),
    "ResNet": partial(build, "timm_resnet"),
    "BiT ResNet": partial(build, "timm_resnetv2"),
    "U-Net": partial(build, "unet_condition"),
    "by patterns": lambda: _built(lambda: SmallConvNet(3, 16), 16),
}
PATTERNS = {"by patterns": SITE_PATTERNS}


def of_config(name: str) -> Tuner:
    return build_target(OmegaConf.to_container(OmegaConf.load(ROOT / f"conf/tuner/{name}.yaml")), "tuner")


def cell(name: str, family: str) -> dict[str, Any]:
    """Return `state` (no, yes, merges) and the `line` that refuses to attach or merge, less the network's class."""
    case, tuner = FAMILIES[family](), of_config(name)
    before = case.run()
    try:
        tuner.attach(case.network, *case.args, patterns=PATTERNS.get(family), **case.kwargs)
    except UserError as refusal:
        assert hooks_on(case.network) == 0
        assert torch.equal(case.run(), before)
        return {"state": "no", "line": _line(refusal, case)}
    _train(case, tuner)
    tuned = case.run()
    try:
        tuner.merge_()
    except UserError as refusal:
        if "no plain form" in str(refusal):
            return {"state": "yes"}
        return {"state": "yes", "line": _line(refusal, case)}
    torch.testing.assert_close(case.run(), tuned, rtol=1e-3, atol=1e-3)
    assert hooks_on(case.network) == 0
    return {"state": "merges"}


def _line(refusal: UserError, case: Case) -> str:
    # How many operations the small network has is of no interest.
    return re.sub(r" \(\d+\)", "", str(refusal).replace(type(case.network).__name__, "the network"))


def _train(case: Case, tuner: Tuner) -> None:
    """Do a training step: every trained tensor gets a gradient and nothing else does, and the step is felt."""
    model = Model(case.network, tuner.eval(), case.run()[0].numel())
    start, trained = case.run(), {id(p) for p in tuner.trainable_parameters()}
    model.fit(1, *case.args, **case.kwargs)
    for parameter in [*tuner.parameters(), *case.network.parameters()]:
        assert (parameter.grad is not None) == (id(parameter) in trained)
    assert model.head.weight.grad.any()
    assert torch.equal(case.run(), start) != bool(trained)


def parameters(name: str) -> int:
    """Return how many numbers a tuner trains in ViT-B/16, without head and without data."""
    with torch.device("meta"):
        backbone = timm.create_model("vit_base_patch16_224", num_classes=0)
        return of_config(name).attach(backbone, torch.empty(1, 3, 224, 224)).num_trainable()


def column(family: str) -> dict[str, dict[str, Any]]:
    return {name: cell(name, family) for name in NAMES}


@pytest.fixture(scope="module")
def committed() -> dict[str, Any]:
    return json.loads(FILE.read_text())


def test_the_file_has_every_tuner_and_family(committed):
    assert list(committed["matrix"]) == list(FAMILIES), AGAIN
    assert list(committed["parameters"]) == NAMES, AGAIN


@pytest.mark.parametrize("family", FAMILIES)
def test_the_matrix_is_up_to_date(family, committed):
    assert column(family) == committed["matrix"].get(family), f"docs/tuner_matrix.json is stale: {AGAIN}"


def test_the_counts_are_up_to_date(committed):
    assert {name: parameters(name) for name in NAMES} == committed["parameters"], AGAIN


def test_refusals_are_one_line_that_names_what_works(committed):
    lines = 0
    for family, found in committed["matrix"].items():
        for of in found.values():
            line = of.get("line", "")
            assert "\n" not in line
            if of["state"] == "no":
                working = [name for name in re.findall(r"tuner=(\w+)", line) if found[name]["state"] != "no"]
                assert working or "target_modules=" in line, (family, line)
                lines += 1
    assert lines


def test_what_standardises_its_weights_is_not_merged():
    """SSF's scale would be standardised away; that LoRA says so too, the matrix has of BiT."""
    network = nn.Sequential(StdConv2d(3, 8, 3, bias=True), nn.Flatten()).eval()
    images = torch.randn(2, 3, 8, 8)
    tuner = of_config("ssf").attach(network, images)
    before, tuned = network[0].weight.clone(), network(images)
    with pytest.raises(UserError, match="0 changes its weights before it uses them; keep the tuner attached"):
        tuner.merge_()
    assert torch.equal(network[0].weight, before)
    assert torch.equal(network(images), tuned)


def test_the_page_names_every_tuner():
    page = (ROOT / "docs/tuners.md").read_text()
    assert [name for name in NAMES if f"| `{name}` |" not in page] == []


def test_the_code_on_the_page_runs(monkeypatch):
    monkeypatch.chdir(ROOT)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/tuners.md").read_text(), re.DOTALL)
    assert len(blocks) == 3
    exec("\n".join(blocks), {})  # one after the other, as a reader would


if __name__ == "__main__":
    found = {"parameters": {name: parameters(name) for name in NAMES}, "matrix": {f: column(f) for f in FAMILIES}}
    FILE.write_text(json.dumps(found, indent=1) + "\n")
