"""The oracle: what it learns, what is refused, and what it shares with the networks it evaluates."""

import pytest
import torch
from omegaconf import OmegaConf

from common.errors import UserError
from lightning_modules.geod.evaluation.oracle import NormalOracle, load_oracle
from lightning_modules.geod.oracle_module import OracleTraining
from tests.geod.build import Heads, plain


def test_the_oracle_learns_normals_and_mask(tmp_path):
    torch.manual_seed(0)
    module = OracleTraining(**(plain("geod_oracle") | {"width": 8}))
    module.configure_model()
    batch = Heads(train_size=32).source("fit").fetch(range(32))
    optimizer = torch.optim.AdamW(module.parameters(), lr=5e-3)
    values = []
    for _ in range(30):
        loss = module.training_step(batch, 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(float(loss))
    assert values[-1] < 0.6 * values[0]
    torch.save({"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams)}, tmp_path / "o.ckpt")
    oracle = load_oracle(str(tmp_path / "o.ckpt"))
    predicted = oracle.predict(batch["image"])
    assert torch.allclose(predicted.normals.norm(dim=-1), torch.ones(32, 32, 32), atol=1e-5)
    assert (predicted.mask == batch["mask"]).float().mean() > 0.8
    assert not any(p.requires_grad for p in oracle.parameters())


def test_what_is_no_oracle_is_refused(tmp_path):
    with pytest.raises(UserError, match="no file"):
        load_oracle(str(tmp_path / "none.ckpt"))
    torch.save({"state_dict": {}, "hyper_parameters": {}}, tmp_path / "other.ckpt")
    with pytest.raises(UserError, match="not a checkpoint of an oracle"):
        load_oracle(str(tmp_path / "other.ckpt"))
    with pytest.raises(UserError, match="multiple of 8"):
        NormalOracle(12)


def test_the_oracle_shares_neither_heads_nor_weights_with_what_it_judges():
    seeds, default = {}, OmegaConf.load("conf/data/heads.yaml").world_seed
    for name in ("geod", "geod_ir", "geod_oracle", "geod_features"):
        config = OmegaConf.load(f"conf/experiment/{name}.yaml")
        seeds[name] = OmegaConf.select(config, "data.world_seed", default=default)
    assert seeds["geod"] == seeds["geod_ir"]
    assert len({seeds["geod"], seeds["geod_oracle"], seeds["geod_features"]}) == 3
