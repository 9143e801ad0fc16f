"""Changes of color are those of torchvision, to the bit."""

import pytest
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from upmap.segmentation.color import ColorJitter


def draw_image(height: int, width: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("strength", [0.1, 0.25, 1.0])
@pytest.mark.parametrize(("height", "width"), [(32, 64), (1, 32), (96, 128)])
def test_views_have_the_colors_that_torchvision_gives_them(
    strength: float, height: int, width: int
) -> None:
    theirs = v2.ColorJitter(brightness=strength, contrast=strength, saturation=strength)
    ours = ColorJitter(strength)
    changed = 0
    for seed in range(20):
        image = tv_tensors.Image(draw_image(height, width, seed))
        torch.manual_seed(seed)
        expected = theirs(image)
        torch.manual_seed(seed)
        actual = ours(image)
        assert torch.equal(actual, expected)
        changed += not torch.equal(actual, image)
    assert changed == 20


def test_an_image_whose_channels_lie_together_has_the_same_colors() -> None:
    image = draw_image(24, 32, 0)
    packed = image.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    torch.manual_seed(1)
    expected = ColorJitter(0.5)(tv_tensors.Image(image))
    torch.manual_seed(1)
    assert torch.equal(ColorJitter(0.5)(tv_tensors.Image(packed)), expected)


def test_the_image_that_was_passed_and_labels_stay_as_they_are() -> None:
    image, labels = draw_image(8, 32, 0), torch.arange(256, dtype=torch.uint8).reshape(8, 32)
    before = image.clone()
    _, after = ColorJitter(1.0)(tv_tensors.Image(image), tv_tensors.Mask(labels))
    assert torch.equal(image, before)
    assert torch.equal(after, labels)
