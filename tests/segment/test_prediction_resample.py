from __future__ import annotations

import pytest
import torch

from napari_tokenunify.segment.prediction.resample import resample


def smooth(shape):
    axes = torch.meshgrid(*((torch.arange(n) + 0.5) / n for n in shape), indexing="ij")
    return (torch.sin(2 * axes[0]) * torch.cos(3 * axes[1]) + axes[2])[None, None] / 3 + 0.3


@pytest.mark.parametrize("there", [(10, 20, 18), (20, 10, 31), (5, 9, 40), (10, 7, 18), (4, 20, 18)])
def test_a_smooth_field_survives_the_way_there_and_back(there):
    here = (10, 20, 18)
    field = smooth(here)
    seen = resample(field, there)
    assert seen.shape[2:] == there
    torch.testing.assert_close(seen, smooth(there), rtol=0, atol=0.06)
    torch.testing.assert_close(resample(seen, here), field, rtol=0, atol=0.08)
    assert (seen is field) == (there == here)


def test_no_section_is_left_out_where_it_gets_coarser():
    field = torch.zeros(1, 1, 8, 2, 2)
    for z in range(8):
        one = field.clone()
        one[:, :, z] = 1
        assert float(resample(one, (2, 2, 2)).sum()) > 0.05


def test_samples_and_channels_stay_apart():
    values = torch.rand(2, 3, 4, 6, 8)
    together = resample(values, (6, 4, 5))
    for sample in range(2):
        for channel in range(3):
            alone = resample(values[sample, channel][None, None], (6, 4, 5))
            torch.testing.assert_close(together[sample, channel], alone[0, 0])
