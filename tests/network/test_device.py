from __future__ import annotations

import pytest
import torch

from napari_tokenunify.errors import ConfigError
from napari_tokenunify.network.device import choose_device, choose_precision

CPU = torch.device("cpu")


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto") == CPU
    with pytest.raises(ConfigError, match="leave out --device"):
        choose_device("cuda")


@pytest.mark.parametrize(("bf16", "wanted"), [(True, "bf16"), (False, "fp32")])
def test_half_precision_only_where_there_are_units_for_it(monkeypatch, bf16, wanted):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    assert choose_precision("auto", CPU) == wanted
    assert choose_precision("fp16", CPU) == "fp16"
    assert choose_precision("auto", torch.device("mps")) == "fp32"
