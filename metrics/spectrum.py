"""How far the power spectrum of generated images is from that of real ones: it sees grain that features can miss."""

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric


def radial_power(images: Float[Tensor, "b c h w"]) -> Float[Tensor, " r"]:
    """Return the power at frequencies 1 to h/2 - 1, a sum over images, a mean over channels and directions."""
    size = images.shape[-1]
    power = torch.fft.fft2(images.double(), norm="ortho").abs().square().mean(dim=1).sum(dim=0)
    frequency = torch.fft.fftfreq(size, 1 / size, device=images.device)
    ring = torch.hypot(frequency[:, None], frequency[None]).round()
    of_ring = (ring.flatten() == torch.arange(1, size // 2, device=images.device)[:, None]).double()
    return of_ring @ power.flatten() / of_ring.sum(dim=1)


class LogSpectrumError(Metric):
    """The mean over spatial frequencies of |ln of power of generated - ln of power of real images|; 0 is best.

    `reset` forgets the generated images only, so that several sets can be compared with the same real ones.

    Args:
        size: side of the square images.
    """

    real_power: Tensor
    real_count: Tensor
    fake_power: Tensor
    fake_count: Tensor
    higher_is_better = False
    full_state_update = False

    def __init__(self, size: int) -> None:
        super().__init__()
        for kind in ("real", "fake"):
            self.add_state(f"{kind}_power", torch.zeros(size // 2 - 1, dtype=torch.float64), dist_reduce_fx="sum")
            self.add_state(f"{kind}_count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, images: Float[Tensor, "b c h w"], real: bool) -> None:
        """Take up images in -1..1."""
        kind = "real" if real else "fake"
        setattr(self, f"{kind}_power", getattr(self, f"{kind}_power") + radial_power(images))
        setattr(self, f"{kind}_count", getattr(self, f"{kind}_count") + len(images))

    def compute(self) -> Tensor:
        """Return the error over all images of all processes."""
        real, fake = self.real_power / self.real_count, self.fake_power / self.fake_count
        return (fake.log() - real.log()).abs().mean()

    def reset(self) -> None:
        """Forget the generated images."""
        real = self.real_power, self.real_count
        super().reset()
        self.real_power, self.real_count = real
