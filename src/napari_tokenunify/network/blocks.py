"""The convolutional parts of the network: instance norm, and the residual, up and output blocks of UNETR.

The blocks are those of MONAI (Apache-2.0; `UnetrBasicBlock`, `UnetrUpBlock`, `UnetOutBlock` with instance norm) with
the same names in the state dict and the same result, written so that they are fast on a CPU: there everything is kept
channels-last, the layout that oneDNN's convolutions are made for, and what nobody else needs is overwritten.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from napari_tokenunify.geometry import Triple

_EPS: Final = 1e-5
_SLOPE: Final = 0.01
_CHUNK: Final = 1 << 20  # numbers worked on at a time, so that they stay in the cache
_FEW: Final = 1024  # positions up to which torch's norm in half precision is slow
_SLOW_BELOW: Final = 20480  # B*C*D*H up to which torch avoids oneDNN (`use_mkldnn` in its Convolution.cpp)


def channels_last(x: Tensor) -> Tensor:
    """Return `x` (B, C, D, H, W) with channels as the innermost axis in memory, copied only where needed."""
    if x.shape[1] == 1:  # torch takes one channel as channels-first, whatever is asked; only its strides can say so
        return x.contiguous().squeeze(1).unsqueeze(-1).movedim(-1, 1)
    return x.contiguous(memory_format=torch.channels_last_3d)


def instance_norm(x: Tensor, *, owned: bool = False) -> Tensor:
    """Subtract the mean and divide by the deviation, over z, y, x, for each sample and channel.

    Parameters
    ----------
    x : Tensor
        (B, C, D, H, W), any float type. One position gives 0, where torch's own function refuses.
    owned : bool
        Only the caller holds `x`, and what made it does not need it for its gradient: it may be overwritten.

    Returns
    -------
    Tensor
        Same shape and type.
    """
    if x.device.type != "cpu":
        return torch.instance_norm(x, None, None, None, None, True, 0.0, _EPS, False)
    if x.dtype.itemsize < 4 and x.shape[2:].numel() < _FEW:
        return instance_norm(x.float(), owned=True).to(x.dtype)
    result: Tensor = _InstanceNorm.apply(channels_last(x), owned)  # type: ignore[no-untyped-call]
    return result


class _InstanceNorm(torch.autograd.Function):
    """Instance norm, channels-last, on a CPU: torch's own is several times slower in this layout, or less exact.

    In half precision torch's forward pass is fast, and its sums, in fp32, are exact enough; its backward pass took a
    third of a training step.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, owned: bool) -> Tensor:
        if x.dtype.itemsize < 4:
            batch, channels, *sizes = x.shape
            x = _rows(x).view(batch, *sizes, channels).movedim(-1, 1)  # strides as torch expects where a size is 1
            y, _, rstd = torch.native_group_norm(x, None, None, batch, channels, x.shape[2:].numel(), channels, _EPS)
            ctx.save_for_backward(y, rstd.float().view(batch, 1, channels))
            return y
        # .data: autograd need not know that an owned tensor changes, as its gradient does not depend on its values
        y = x.data if owned else x.clone(memory_format=torch.channels_last_3d)
        rows = _rows(y)
        rows.sub_(rows.mean(1, keepdim=True))
        squares = sum((part.square().sum(1, keepdim=True) for part in _chunks(rows)), rows.new_zeros(()))
        scale = (squares / rows.shape[1] + _EPS).rsqrt_()
        rows.mul_(scale)
        ctx.save_for_backward(y, scale)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        y, scale = ctx.saved_tensors
        grad = channels_last(grads[0])
        result = torch.empty_like(grad)
        parts = list(zip(*(_chunks(_rows(array)) for array in (y, grad, result)), strict=True))
        mean = _rows(grad).mean(1, keepdim=True, dtype=scale.dtype)
        slope = torch.zeros_like(mean)
        for row, up, _ in parts:
            slope += (row.to(scale.dtype) * up).sum(1, keepdim=True)
        slope /= -_rows(y).shape[1]
        for row, up, out in parts:
            exact = out if out.dtype == scale.dtype else torch.empty_like(out, dtype=scale.dtype)
            torch.addcmul(up.to(scale.dtype), row.to(scale.dtype), slope, out=exact).sub_(mean).mul_(scale)
            if exact is not out:
                out.copy_(exact)
        return result, None


def _rows(x: Tensor) -> Tensor:
    """View a channels-last (B, C, D, H, W) as (B, positions, C)."""
    return x.movedim(1, -1).view(x.shape[0], -1, x.shape[1])


def _chunks(rows: Tensor) -> tuple[Tensor, ...]:
    return torch.split(rows, max(1, _CHUNK // (rows.shape[0] * rows.shape[2])), dim=1)


def rectify(x: Tensor, slope: float = 0.0) -> Tensor:
    """Multiply what is negative by `slope`; overwrites `x` where no gradient is wanted."""
    return functional.leaky_relu(x, slope, inplace=not x.requires_grad)


def add(x: Tensor, y: Tensor) -> Tensor:
    """Return `x + y`; overwrites `x` where no gradient is wanted."""
    return x + y if x.requires_grad or y.requires_grad else x.add_(y)


def full_precision(x: Tensor, *, wanted: bool) -> torch.autocast:
    """Switch autocast off for a while, if wanted and `x` is on a CPU.

    Grey values, and what the first convolutions make of them, have a mean that is large beside their contrast. In
    bfloat16, the only half precision a CPU is fast in, much of the contrast would be lost before a norm takes the
    mean away: affinities would be off by 0.04 instead of 0.01.
    """
    kind = x.device.type
    return torch.autocast(kind, enabled=torch.is_autocast_enabled(kind) and not (wanted and kind == "cpu"))


class Conv3d(nn.Conv3d):
    """torch's convolution, with a way round its slow path for one small sample in fp32 on a CPU.

    There torch takes code that is five to twenty times slower than oneDNN's. A 1x1x1 kernel becomes a matrix product
    instead, and another small kernel a convolution in 2-D: sections as samples, their neighbours as further channels.
    Padding is given as numbers, not as "same".

    Where the kernel is longer than the input along some axis, a CPU computes in fp32: in bfloat16 oneDNN (torch 2.13)
    leaves the gradient of some weights unwritten there, which then holds whatever the memory held before.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in, D, H, W) to (B, out, D', H', W')."""
        if x.device.type != "cpu":
            return super().forward(x)
        reaches_across = any(size < extent for size, extent in zip(x.shape[2:], self.kernel_size, strict=True))
        with full_precision(x, wanted=self.in_channels == 1 or reaches_across):
            return self._by_quickest_path(x.to(self.weight.dtype) if reaches_across else x)

    def _by_quickest_path(self, x: Tensor) -> Tensor:
        if self.kernel_size == self.stride == (1, 1, 1):
            return functional.linear(x.movedim(1, -1), self.weight.flatten(1), self.bias).movedim(-1, 1)
        small = x.shape[0] == 1 and x.shape[:4].numel() <= _SLOW_BELOW and min(self.kernel_size[1:]) <= 3
        return self._by_section(x) if small and x.dtype.itemsize >= 4 else super().forward(x)

    def _by_section(self, x: Tensor) -> Tensor:
        (extent, *_), (step, *steps), (margin, *margins) = self.kernel_size, self.stride, map(int, self.padding)
        sections = functional.pad(x[0].movedim(0, -1), (0, 0, 0, 0, 0, 0, margin, margin))  # (D, H, W, in)
        last = len(sections) - extent + 1
        near = torch.cat([sections[first : first + last : step] for first in range(extent)], dim=-1)
        weight = self.weight.transpose(1, 2).flatten(1, 2)  # (out, extent * in, y, x)
        y = functional.conv2d(near.movedim(-1, 1), weight, self.bias, steps, margins)  # (D', out, H', W')
        return y.transpose(0, 1).unsqueeze(0)


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut (MONAI's `UnetResBlock`).

    Parameters
    ----------
    width_in, width_out : int
        Channels; where they differ, the shortcut is a 1x1x1 convolution.
    kernel : tuple of int
        Extent (z, y, x), odd.
    """

    def __init__(self, width_in: int, width_out: int, kernel: Triple) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
        self.conv1 = _Named(Conv3d(width_in, width_out, kernel, padding=padding, bias=False))
        self.conv2 = _Named(Conv3d(width_out, width_out, kernel, padding=padding, bias=False))
        self.conv3 = _Named(Conv3d(width_in, width_out, 1, bias=False)) if width_in != width_out else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width_in, D, H, W) to (B, width_out, D, H, W)."""
        y = rectify(instance_norm(self.conv1(x), owned=True), _SLOPE)
        y = instance_norm(self.conv2(y), owned=True)
        shortcut = x if self.conv3 is None else instance_norm(self.conv3(x), owned=True)
        return rectify(add(y, shortcut.to(y.dtype)), _SLOPE)


class BasicBlock(nn.Module):
    """A ResidualBlock under MONAI's name for it (`UnetrBasicBlock`)."""

    def __init__(self, width_in: int, width_out: int, kernel: Triple) -> None:
        super().__init__()
        self.layer = ResidualBlock(width_in, width_out, kernel)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width_in, D, H, W) to (B, width_out, D, H, W)."""
        result: Tensor = self.layer(x)
        return result


class UpBlock(nn.Module):
    """Refine by `stride`, join with what the encoder saw there, convolve (MONAI's `UnetrUpBlock`).

    Parameters
    ----------
    width_in, width_out : int
        Channels from below, and of the result.
    kernel, stride : tuple of int
        (z, y, x).
    """

    def __init__(self, width_in: int, width_out: int, kernel: Triple, stride: Triple) -> None:
        super().__init__()
        self.transp_conv = _Named(nn.ConvTranspose3d(width_in, width_out, stride, stride, bias=False))
        self.conv_block = ResidualBlock(2 * width_out, width_out, kernel)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Map `x` (B, width_in, d, h, w) to the size of `skip` (B, width_out, D, H, W), cutting what is too much."""
        depth, height, width = skip.shape[2:]
        up = self.transp_conv(x)[:, :, :depth, :height, :width]
        result: Tensor = self.conv_block(torch.cat((up, skip), dim=1))
        return result


class OutBlock(nn.Module):
    """A 1x1x1 convolution with bias (MONAI's `UnetOutBlock`)."""

    def __init__(self, width_in: int, outputs: int) -> None:
        super().__init__()
        self.conv = _Named(Conv3d(width_in, outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width_in, D, H, W) to (B, outputs, D, H, W)."""
        result: Tensor = self.conv(x)
        return result


class _Named(nn.Module):
    """Gives a convolution the `.conv` that MONAI's keys have."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.conv(x)
        return result
