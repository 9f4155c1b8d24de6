"""What is answered without running anything: the listing, help, the composed config, cost, check."""

import json
import subprocess
import sys

import pytest

from harness.config.compose import options
from tests.cli.forks import ENVIRONMENT, ROOT
from tests.cli.quire import call


def test_the_listing_has_every_experiment():
    listing = call()
    assert listing.returncode == 0
    for name in options("experiment"):
        assert f"\n{name} " in listing.stdout


def test_claims_are_listed_with_role_verdict_tally_and_what_was_learned():
    lines = {" ".join(line.split()) for line in call().stdout.splitlines()}
    assert any(
        line.startswith("geod Guidance brings the generated geometry") and line.endswith("void") for line in lines
    )
    assert "paper: 1 void; ablation: 4 undecided; sanity: 1 failed" in lines
    assert any(line.startswith("reading sanity From pictures alone") and line.endswith("failed") for line in lines)
    assert "python run.py claim=NAME [seeds=5 ...] all its arms and seeds, then its report" in lines


def test_all_claims_in_one_table(tmp_path):
    (tmp_path / "claims/uosr").mkdir(parents=True)
    here = {"verdict": "fails", "scope": "3 of 5 seeds", "tally": {"paper": {"fails": 3}}, "learned": "Nothing."}
    (tmp_path / "claims/uosr/claim.json").write_text(json.dumps(here))
    done = call("claim=all", "mode=report", f"runs={tmp_path}")
    assert done.returncode == 0, done.stderr
    for name in options("claim"):
        assert f" {name} " in done.stdout
    assert "fails (3 of 5" in done.stdout
    assert "Nothing." in done.stdout
    assert "docs/results/geod.json" in done.stdout
    assert "geod: roles assigned after the runs" in done.stdout


@pytest.mark.parametrize("words", [[], ["--help"], ["experiment=uosr", "--cfg", "job"], ["experiment=uosr", "seed=x"]])
def test_no_torch_is_imported_to_answer(words):
    script = (
        "import sys\nsys.argv = ['run.py']\nfrom harness.cli.main import main\n"
        f"main({words!r})\nheavy = {{'torch', 'pytorch_lightning', 'wandb', 'timm'}} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_help_names_groups_and_keys():
    text = call("--help").stdout
    for word in ("experiment", "hardware", "ddp_cpu", "mode=", "force=true", "uosr_digits"):
        assert word in text


def test_cfg_prints_the_composed_config():
    done = call("experiment=uosr", "seed=7", "--cfg", "job")
    assert done.returncode == 0
    assert "seed: 7" in done.stdout
    assert "_target_: lightning_modules.uosr.module.UOSR" in done.stdout


def test_cfg_with_a_typo_is_one_line():
    done = call("experiment=uosr", "sed=7", "--cfg", "job")
    assert done.returncode == 2
    assert done.stderr.strip() == "error: command line: sed: no such key in the config - did you mean seed or seeds?"


def test_cost_allocates_nothing_and_check_writes_nothing(tmp_path):
    cost = call("experiment=uosr_cifar100", "mode=cost", f"runs={tmp_path}")
    assert cost.returncode == 0, cost.stderr
    for word in ("parameters", "GFLOPs", "MiB of activations"):
        assert word in cost.stdout
    check = call("experiment=uosr", "mode=check", f"runs={tmp_path}")
    assert check.returncode == 0, check.stderr
    assert "can run here" in check.stdout
    assert not list(tmp_path.iterdir())
