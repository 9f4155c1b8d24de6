"""Without turning points the class is DDPM, bit for bit a plain implementation (§2.7)."""

import pytest
import torch

from lightning_modules.dvdp.sampler import Sampler
from tests.dvdp.build import awake, images, module_of

PLAIN = {"process": {"turning_points": []}, "prediction": "eps", "level_scale": False}


class PlainDDPM:
    """DDPM (Ho et al. 2020) as anybody would write it."""

    def __init__(self, network, steps=1000):
        betas = torch.linspace(1e-4, 0.02, steps, dtype=torch.float64)
        self.alpha_bar = torch.cat([torch.ones(1).double(), torch.cumprod(1 - betas, 0)])
        self.network, self.steps = network, steps

    def loss(self, x0, noise):
        t = noise.integers("times", 1, self.steps + 1, (len(x0),))
        noise = noise.normal("white", x0.shape)
        signal, spread = (
            part.sqrt().float()[:, None, None, None] for part in (self.alpha_bar[t], 1 - self.alpha_bar[t])
        )
        return (self.network(signal * x0 + spread * noise, t) - noise).square().flatten(1).mean(1).mean()

    @torch.no_grad()
    def sample(self, shape, generator):
        x = torch.randn(shape, generator=generator)
        for t in range(self.steps, 0, -1):
            now, before = self.alpha_bar[t], self.alpha_bar[t - 1]
            eps = self.network(x, torch.full((len(x),), t))
            x0 = ((x - (1 - now).sqrt() * eps) / now.sqrt()).clamp(-1, 1)
            alpha = now / before
            mean = (before.sqrt() * (1 - alpha) * x0 + alpha.sqrt() * (1 - before) * x) / (1 - now)
            spread = ((1 - before) / (1 - now) * (1 - alpha)).sqrt()
            x = mean.float() + (spread * torch.randn(shape, generator=generator) if t > 1 else 0)
        return x


def test_five_steps_of_training_are_those_of_a_plain_ddpm_bit_for_bit():
    ours, theirs = (module_of(**PLAIN) for _ in range(2))
    plain = PlainDDPM(theirs.network.networks[0])
    optimizers = [torch.optim.AdamW(module.network.parameters(), lr=2e-3) for module in (ours, theirs)]
    for step in range(5):
        losses = []
        for loss_of, optimizer in zip((lambda x, _: ours.loss(x, 0), plain.loss), optimizers, strict=True):
            loss = loss_of(images(8, seed=step), ours.noise)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[0] == losses[1]
    for one, other in zip(ours.network.parameters(), theirs.network.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_whole_ancestral_chain_is_that_of_a_plain_ddpm():
    module = awake(module_of(**PLAIN))
    sampler = Sampler(module.process, "eps", None, method="ancestral", steps=1000)
    found = sampler(module.network, (1, 16, 16), [torch.Generator().manual_seed(3)])
    plain = PlainDDPM(module.network.networks[0]).sample((1, 1, 16, 16), torch.Generator().manual_seed(3))
    # The last step of ours draws no noise, nor does theirs.
    assert (found - plain.clamp(-1, 1)).abs().max() < 1e-3


def test_v_without_turning_points_is_plain_v():
    module = module_of(**(PLAIN | {"prediction": "v"}))
    from lightning_modules.dvdp.parameterization import amplitudes, target

    clean, noise, time = images(2), torch.randn(2, 1, 16, 16), torch.tensor([100, 700])
    at = amplitudes(module.process, 0, time, None)
    signal, spread = (part[time].float()[:, None, None, None] for part in (module.process.signal, module.process.noise))
    assert torch.allclose(target("v", at, clean, noise), signal * noise - spread * clean, atol=1e-6)


@pytest.mark.parametrize("turns", [[], [150, 350]])
def test_the_baseline_has_the_same_network_and_first_weights(turns):
    one, other = module_of(), module_of(process={"turning_points": turns})
    states = (one.network.state_dict(), other.network.state_dict())
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
