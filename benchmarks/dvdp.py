"""What an image costs: DVDP against our own DDPM (no turning points) and against diffusers' pipelines, same U-Net.

Multiply-accumulates are counted (FlopCounterMode), seconds measured, each the least of `--repeats` turns that go round
the candidates. `python benchmarks/dvdp.py` takes five minutes on two cores: the U-Net of experiment=dvdp, images of 64
pixels, 64 at a time. `--experiment dvdp_ffhq256 --device cuda --bf16 --compile` measures a U-Net of paper scale.
"""

import argparse
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMPipeline, DDIMScheduler, DDPMPipeline, DDPMScheduler

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.turns import seconds
from harness.config.compose import plain
from harness.config.load import load
from lightning_modules.dvdp.costs import macs_of_levels, macs_of_sampling, macs_of_training
from lightning_modules.dvdp.module import DVDP

EARLY, LATE = [150, 350], [300, 600]


def model(experiment: str, turns: list[int], device: str, compile_it: bool, *, folded: bool = False) -> DVDP:
    """Return an untrained model of an experiment with these turning points.

    With `folded` its images are those that the stem makes, so that it and a pipeline of diffusers work on the same.
    """
    words = [f"experiment={experiment}", f"model.process.turning_points={turns}", "model.batch_scale=null"]
    config = plain(load(words))["model"]
    options: dict[str, Any] = {key: value for key, value in config.items() if not key.startswith("_")}
    options["evaluation"] |= {"features": None, "inception": None}
    if folded:
        stem = options["network"]["patch_size"]
        options["image_size"], options["channels"] = options["image_size"] // stem, options["channels"] * stem**2
        options["network"] |= {"patch_size": 1}
    torch.manual_seed(0)
    module = DVDP(**options)
    module.configure_model()
    assert module.network is not None
    if compile_it:
        module.network.compile_each()
        module.average.module.compile_each()
    return module.to(device).eval()


def training_step(module: DVDP, optimizer: torch.optim.Optimizer, images: torch.Tensor, level: int) -> None:
    """Do a step at a level, with everything but Lightning."""
    module.loss(images, level).backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def sampling(options: argparse.Namespace, models: dict[str, DVDP]) -> None:
    """Compare the cost of an image, at the same number of steps."""
    ddpm, count, steps, device = models["DDPM"], options.images, options.steps, options.device
    assert ddpm.network is not None
    folded = {
        method: model(options.experiment, [], device, options.compile, folded=True) for method in ("ddim", "ancestral")
    }
    for method, module in folded.items():
        module.hparams.sampler["method"] = method
    unet = folded["ddim"].average.module.networks[0].unet
    shape = {"batch_size": count, "num_inference_steps": steps, "output_type": "np"}
    pipelines = {
        "diffusers DDIMPipeline": DDIMPipeline(unet, DDIMScheduler(clip_sample=True)),
        "diffusers DDPMPipeline": DDPMPipeline(unet, DDPMScheduler(clip_sample=True)),
    }
    unet.register_to_config(sample_size=folded["ddim"].hparams.image_size)
    work: dict[str, Callable[[], object]] = {}
    for name, module in models.items():
        work[f"ours, {name}, DDIM"] = lambda module=module: list(
            module.generate({"count": count, "steps": steps, "seed": 0})
        )
    for method, module in folded.items():
        work[f"ours, {method}, no stem"] = lambda module=module: list(
            module.generate({"count": count, "steps": steps, "seed": 0})
        )
    for name, pipeline in pipelines.items():
        pipeline.set_progress_bar_config(disable=True)
        work[name] = lambda pipeline=pipeline: pipeline(**shape)
    spent = seconds(work, options.repeats, device)
    base = spent["ours, DDPM, DDIM"]
    of_levels = {name: costs(module) for name, module in models.items()}
    dense = macs_of_sampling(ddpm.sampler(steps).visits, of_levels["DDPM"])
    print(f"sampling, {count} images at a time, {steps} steps:")
    for name, value in spent.items():
        of = next((key for key in models if f", {key}, DDIM" in name), None)
        macs = macs_of_sampling(models[of].sampler(steps).visits, of_levels[of]) if of else dense
        print(
            f"  {name:28} {1e3 * value / count:8.1f} ms an image, {base / value:5.2f} times as fast as our DDPM;"
            f" {macs / 1e9:7.2f} GMACs, {dense / macs:.2f} times fewer",
            flush=True,
        )


def costs(module: DVDP) -> list[float]:
    """Return the multiply-accumulates of a network call at every level."""
    return macs_of_levels(module.average.module, module.hparams.channels, module.hparams.image_size, module.levels)


def training(options: argparse.Namespace, models: dict[str, DVDP]) -> None:
    """Compare training images a second: each level by itself, then their mean by how often each is drawn."""
    print(f"training, {options.batch} images a step:")
    base = None
    for name, module in models.items():
        size, channels = module.hparams.image_size, module.hparams.channels
        images = torch.rand(options.batch, channels, size, size, device=options.device) * 2 - 1
        module.train()
        optimizer = torch.optim.AdamW(module.network.parameters())
        work = {
            str(level): (lambda m=module, o=optimizer, i=images, level=level: training_step(m, o, i, level))
            for level in range(module.levels)
        }
        spent = seconds(work, options.repeats, options.device)
        expected = sum(share * spent[str(level)] for level, share in enumerate(module.process.shares))
        base = base or expected
        macs = macs_of_training(module.process, costs(module)) / 1e9
        told = ", ".join(f"{options.batch / value:.1f}" for value in spent.values())
        print(
            f"  {name:14} {options.batch / expected:9.1f} images/s, {base / expected:.2f} times DDPM's"
            f" (by level: {told}); {macs:.2f} GMACs an image",
            flush=True,
        )


def main() -> None:
    """Measure sampling, then training."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--experiment", default="dvdp")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--images", type=int, default=64, help="images drawn at a time")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--batch", type=int, default=64, help="training images of a step")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    turns: dict[str, list[int]] = {"DDPM": [], "turns 150/350": EARLY, "turns 300/600": LATE}
    models = {name: model(options.experiment, of, options.device, options.compile) for name, of in turns.items()}
    context = torch.autocast(options.device, torch.bfloat16) if options.bf16 else nullcontext()
    print(f"{options.experiment}: {sum(p.numel() for p in models['DDPM'].network.parameters()):,} parameters")
    with context:
        sampling(options, models)
        training(options, models)


if __name__ == "__main__":
    main()
