"""Every tuner on the tunable part of every paper that has one, through that paper's own example."""

from pathlib import Path

import pytest
import torch

from common.errors import UserError
from harness.config.compose import composed
from harness.run.build import build_module

NAMES = sorted(path.stem for path in Path("conf/tuner").glob("*.yaml") if path.stem != "none")
PAPERS = ("clip_fsar", "neural_dependency", "u_tuning", "uosr")
# A convolutional net has neither attention nor a feed-forward part.
OF_TRANSFORMERS = {"adapter", "adapter_parallel", "adaptformer", "prefix", "u_ffn", "u_mha", "u_tuning"}
OF_TRANSFORMERS |= {"vpt_deep", "vpt_shallow"}
REFUSED = {
    # open_clip's attention is torch's own, which computes its projections without calling them.
    "clip_fsar": {"prefix", "ssf"},
    "neural_dependency": OF_TRANSFORMERS,
    "u_tuning": set(),
    "uosr": OF_TRANSFORMERS,
}


@pytest.mark.parametrize("paper", PAPERS)
@pytest.mark.parametrize("tuner", NAMES)
def test_a_tuner_attaches_or_says_what_to_take(paper, tuner):
    module = build_module(composed([f"experiment={paper}", f"tuner={tuner}", "debug=tiny"]).values)
    if tuner in REFUSED[paper]:
        with pytest.raises(UserError, match="tuner=") as refused:
            module.prepare(load=False)
        assert len(refused.value.lines) == 1
    else:
        module.prepare(load=False)
        assert module.tuner.num_trainable() > 0 or tuner == "linear"


@pytest.mark.parametrize("paper", PAPERS)
def test_the_example_of_a_paper_moves_no_other_draw(paper):
    module = build_module(composed([f"experiment={paper}", "debug=tiny"]).values)
    state = torch.get_rng_state()
    (images,) = module.example()
    assert images.std() > 0.5
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(module.example()[0], images)
    with torch.device("meta"):
        assert module.example()[0].is_meta
