"""A small StyleGAN2 behind the interface of editable generators, and the options of a sampling."""

from types import SimpleNamespace

import torch

from networks.gan.stylegan2.generator import StyleGAN2

AXES = {"eyes": torch.arange(8) < 3, "mouth": (torch.arange(8) >= 3) & (torch.arange(8) < 5)}
OPTIONS = {
    "count": 5,
    "seed": 0,
    "truncation": 1.0,
    "resample": None,
    "edit": "replace",
    "amount": 1.0,
    "outside": False,
    "invert": None,
    "latent": None,
    "space": "w",
    "steps": 20,
    "vgg": None,
}


class TinyGenerator(StyleGAN2):
    """16 x 16 pixels, z and w of 8 axes; noise matters."""

    def __init__(self, seed=0):
        torch.manual_seed(seed)
        super().__init__(8, 0, 8, 16, 3, mapping_layers=2, channel_base=128, channel_max=16)
        self.z_dim, self.w_dim = 8, 8
        for name, value in self.named_parameters():
            if name.endswith("noise_strength"):
                torch.nn.init.constant_(value, 0.1)
        with torch.no_grad():
            self.mapping.w_avg.copy_(self.mapping(torch.randn(512, 8)).mean(dim=0))
        self.eval().requires_grad_(False)

    @property
    def num_ws(self):
        return self.synthesis.num_ws

    @property
    def noise_sides(self):
        return self.synthesis.noise_sides

    def to_w(self, z, c=None, *, truncation=1.0):
        return self.mapping(z, c, truncation=truncation)

    def synthesize(self, ws, noise, c=None):
        return SimpleNamespace(image=self.synthesis(ws, noise))


class SplitGenerator(TinyGenerator):
    """Its left half shows the first three axes of w alone, its right half the others."""

    def synthesize(self, ws, noise, c=None):
        left, right = ws[..., :3].mean(dim=(1, 2)), ws[..., 3:].mean(dim=(1, 2))
        columns = torch.cat([left[:, None].expand(-1, 8), right[:, None].expand(-1, 8)], dim=1)
        return SimpleNamespace(image=columns[:, None, None].expand(-1, 3, 16, -1))
