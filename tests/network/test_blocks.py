import pytest
import torch
from torch import nn

from napari_tokenunify.network.blocks import (
    BasicBlock,
    Conv3d,
    OutBlock,
    UpBlock,
    add,
    channels_last,
    instance_norm,
    rectify,
)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("shape", [(1, 32, 9, 40, 41), (2, 5, 1, 2, 1), (3, 1, 2, 3, 4)])
def test_instance_norm_is_torchs(shape):
    x = torch.randn(shape) * 3 + 50
    wanted = nn.functional.instance_norm(x.double()).float()
    torch.testing.assert_close(instance_norm(x), wanted, rtol=1e-4, atol=1e-4)
    assert torch.equal(instance_norm(x), instance_norm(channels_last(x)))


def test_instance_norm_has_the_right_gradient():
    x = torch.randn(2, 3, 2, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(instance_norm, (x,))
    assert torch.autograd.gradcheck(lambda x: instance_norm(channels_last(x * 2), owned=True), (x,))


def test_instance_norm_overwrites_only_what_it_is_given():
    x = channels_last(torch.randn(1, 4, 2, 3, 4))
    before = x.clone()
    instance_norm(x)
    assert torch.equal(x, before)
    assert instance_norm(x, owned=True).data_ptr() == x.data_ptr()


def test_instance_norm_of_one_position_is_zero():
    assert torch.equal(instance_norm(torch.full((2, 3, 1, 1, 1), 7.0)), torch.zeros(2, 3, 1, 1, 1))


def test_instance_norm_works_in_half_precision():
    x = torch.randn(1, 8, 4, 6, 6)
    normed = instance_norm(x.bfloat16())
    assert normed.dtype == torch.bfloat16
    torch.testing.assert_close(normed.float(), instance_norm(x), rtol=0.02, atol=0.02)


def test_rectify_and_add_keep_what_a_gradient_needs():
    x = torch.tensor([-1.0, 2.0], requires_grad=True)
    y = rectify(x, 0.1)
    assert torch.equal(x, torch.tensor([-1.0, 2.0]))
    assert torch.equal(add(y, y), torch.tensor([-0.2, 4.0]))
    assert torch.equal(y, torch.tensor([-0.1, 2.0]))
    free = x.detach()
    assert add(rectify(free), free) is free


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "shape"),
    [
        (3, 1, 1, (4, 5, 6)),
        (3, 1, 1, (1, 5, 6)),
        ((1, 3, 3), 1, (0, 1, 1), (4, 5, 6)),
        ((5, 3, 1), 1, (2, 1, 0), (3, 5, 6)),
        ((1, 2, 2), 2, 0, (5, 4, 6)),
        ((1, 2, 2), (1, 2, 2), 0, (4, 4, 6)),
        ((1, 7, 7), (3, 2, 2), (0, 3, 3), (4, 9, 10)),
        (1, 1, 0, (4, 5, 6)),
        ((1, 1, 1), (2, 1, 1), 0, (5, 5, 6)),
    ],
)
@pytest.mark.parametrize("batch", [1, 2])
def test_the_quick_convolution_is_torchs(kernel, stride, padding, shape, batch):
    quick = Conv3d(3, 4, kernel, stride, padding)
    plain = nn.Conv3d(3, 4, kernel, stride, padding)
    plain.load_state_dict(quick.state_dict())
    x = torch.randn(batch, 3, *shape)
    for given in (x, channels_last(x)):
        torch.testing.assert_close(quick(given), plain(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("widths", [(3, 6), (6, 6)])
@pytest.mark.parametrize("kernel", [(1, 5, 5), (3, 3, 3)])
def test_the_residual_block_is_monais(widths, kernel):
    blocks = pytest.importorskip("monai.networks.blocks.unetr_block", reason="monai is not installed")
    ours = BasicBlock(*widths, kernel)
    theirs = blocks.UnetrBasicBlock(3, *widths, kernel, 1, "instance", res_block=True)
    theirs.load_state_dict(ours.state_dict())
    ours.load_state_dict(theirs.state_dict())
    assert_same(ours, theirs, torch.randn(2, widths[0], 4, 7, 8))


@pytest.mark.parametrize("stride", [(2, 2, 2), (1, 2, 2)])
def test_the_up_block_is_monais(stride):
    blocks = pytest.importorskip("monai.networks.blocks.unetr_block", reason="monai is not installed")
    ours = UpBlock(8, 4, (1, 5, 5), stride)
    theirs = blocks.UnetrUpBlock(3, 8, 4, (1, 5, 5), stride, "instance", res_block=True)
    theirs.load_state_dict(ours.state_dict())
    assert_same(ours, theirs, torch.randn(2, 8, 2, 4, 3), torch.randn(2, 4, 2 * stride[0], 8, 6))


def test_the_out_block_is_monais():
    blocks = pytest.importorskip("monai.networks.blocks.dynunet_block", reason="monai is not installed")
    ours, theirs = OutBlock(4, 3), blocks.UnetOutBlock(3, 4, 3)
    theirs.load_state_dict(ours.state_dict())
    assert_same(ours, theirs, torch.randn(2, 4, 2, 4, 3))


def test_the_up_block_cuts_what_the_skip_has_not():
    up = UpBlock(4, 2, (3, 3, 3), (2, 2, 2))
    assert up(torch.randn(1, 4, 2, 3, 3), torch.randn(1, 2, 3, 5, 6)).shape == (1, 2, 3, 5, 6)


def assert_same(ours, theirs, *inputs):
    ours, theirs = ours.double(), theirs.double()
    inputs = [x.double() for x in inputs]
    mine, yours = ours(*inputs), theirs(*inputs)
    torch.testing.assert_close(mine, yours, rtol=1e-9, atol=1e-9)
    mine.square().sum().backward()
    yours.square().sum().backward()
    for name, parameter in theirs.named_parameters():
        torch.testing.assert_close(ours.get_parameter(name).grad, parameter.grad, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("kernel", "size"),
    [((3, 3, 3), (2, 20, 20)), ((5, 5, 5), (4, 20, 20)), ((1, 5, 5), (8, 1, 1)), ((3, 3, 3), (4, 9, 9))],
)
def test_weights_learn_in_half_precision_where_the_kernel_is_longer_than_the_input(kernel, size):
    conv = Conv3d(32, 32, kernel, padding=tuple(extent // 2 for extent in kernel))
    raw = torch.randn(1, 32, *size)
    wanted = torch.autograd.grad(conv(raw).square().sum(), conv.weight)[0]
    for _ in range(5):
        dirt = [torch.full((n,), torch.nan) for n in (conv.weight.numel(), 2 * conv.weight.numel())]
        del dirt  # what is not written to shows
        with torch.autocast("cpu", torch.bfloat16):
            loss = conv(channels_last(raw)).float().square().sum()
        given = torch.autograd.grad(loss, conv.weight)[0]
        assert (given - wanted).abs().max() < 0.05 * wanted.abs().max()


def test_instance_norm_has_the_right_gradient_in_half_precision():
    x, up = torch.randn(2, 8, 6, 10, 12), torch.randn(2, 8, 6, 10, 12)
    half, exact = x.bfloat16().requires_grad_(), x.bfloat16().double().requires_grad_()
    instance_norm(half).backward(up.bfloat16())
    instance_norm(exact).backward(up.bfloat16().double())
    error = (half.grad.double() - exact.grad).abs().max() / exact.grad.abs().max()
    assert half.grad.dtype == torch.bfloat16
    assert error < 0.02
