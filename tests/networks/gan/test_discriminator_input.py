"""What a discriminator sees of real and of rendered images."""

import torch

from networks.gan.discriminator_input import DiscriminatorInput, build_discriminator
from networks.gan.generators3d.volume_rendering import Rendering
from tests.geod.build import SMALL, cameras, images, plain


def test_inputs_are_blurred_at_first_and_have_raw_images_next_to_them():
    options = plain("geod")["discriminator"] | SMALL["discriminator"] | {"pose_conditioned": False}
    fading = DiscriminatorInput(options | {"blur_sigma": 4.0, "blur_fade_kimg": 2}, 32)
    assert [fading.sigma(seen) for seen in (0, 1000, 2000, 9000)] == [4, 2, 0, 0]
    image = images(4)
    seen = []
    for images_seen in (0, 2000):
        fading(lambda x, c: seen.append(x) or x.mean(dim=(1, 2, 3)), image, None, images_seen)
    assert seen[0].std() < 0.8 * seen[1].std()
    assert torch.equal(seen[1], image)
    both = DiscriminatorInput(options | {"dual_discrimination": True}, 16)
    assert both.of_real(image).shape == (4, 6, 32, 32)
    rendering = Rendering(image, torch.ones(4, 16, 16), torch.ones(4, 16, 16), images(4)[..., ::2, ::2])
    assert both.of_rendered(rendering).shape == (4, 6, 32, 32)
    critic = build_discriminator(options | {"dual_discrimination": True, "pose_conditioned": True}, 32)
    conditioned = DiscriminatorInput(options | {"dual_discrimination": True, "pose_conditioned": True}, 16)
    assert conditioned(critic, conditioned.of_real(image), cameras(4), 0).shape == (4,)
