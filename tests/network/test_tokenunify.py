import pytest
import torch
from torch.nn import functional

from napari_tokenunify.network.presets import NETWORK_PRESETS, NetworkConfig
from napari_tokenunify.network.tokenunify import TokenUnify, build_network

OFFICIAL = {
    "base": 28_296_131,
    "100M": 112_534_403,
    "200M": 206_577_475,
    "500M": 506_567_395,
    "1B": 1_008_908_931,
}
LITTLE = NetworkConfig(widths=(4, 6, 8, 10), hidden=12)


def little(seed=0, **changes):
    torch.manual_seed(seed)
    return build_network(LITTLE.replace(**changes))


def residual_block_shapes(name, width_in, width_out, kernel):
    shapes = {
        f"{name}.conv1.conv.weight": (width_out, width_in, *kernel),
        f"{name}.conv2.conv.weight": (width_out, width_out, *kernel),
    }
    return shapes if width_in == width_out else {**shapes, f"{name}.conv3.conv.weight": (width_out, width_in, 1, 1, 1)}


def mamba_layer_shapes(name, width):
    inner, rank = 2 * width, -(-width // 16)
    shapes = {f"{name}.norm.{part}": (width,) for part in ("weight", "bias")}
    shapes |= {f"{name}.mamba.in_proj.weight": (2 * inner, width), f"{name}.mamba.out_proj.weight": (width, inner)}
    for branch in ("", "_b", "_s"):
        shapes |= {
            f"{name}.mamba.A{branch}_log": (inner, 16),
            f"{name}.mamba.D{branch}": (inner,),
            f"{name}.mamba.conv1d{branch}.weight": (inner, 1, 4),
            f"{name}.mamba.conv1d{branch}.bias": (inner,),
            f"{name}.mamba.x_proj{branch}.weight": (rank + 32, inner),
            f"{name}.mamba.dt_proj{branch}.weight": (inner, rank),
            f"{name}.mamba.dt_proj{branch}.bias": (inner,),
        }
    return shapes


def conv_shapes(name, width_out, width_in, *kernel):
    return {f"{name}.weight": (width_out, width_in, *kernel), f"{name}.bias": (width_out,)}


def official_shapes(widths, hidden, kernel, depth, outputs):
    """The table of the reference page, section 3.5."""
    shapes = conv_shapes("vit.downsample_layers.0.0", widths[0], 1, 1, 7, 7)
    for i, width in enumerate(widths):
        if i:
            shapes |= conv_shapes(f"vit.downsample_layers.{i}.1", width, widths[i - 1], 1, 2, 2)
        for j in range(depth):
            shapes |= mamba_layer_shapes(f"vit.stages.{i}.{j}", width)
        for part, extent in (("proj", 3), ("proj2", 3), ("proj3", 1), ("proj4", 1)):
            shapes |= conv_shapes(f"vit.gscs.{i}.{part}", width, width, extent, extent, extent)
        shapes |= conv_shapes(f"vit.mlps.{i}.fc1", 2 * width, width, 1, 1, 1)
        shapes |= conv_shapes(f"vit.mlps.{i}.fc2", width, 2 * width, 1, 1, 1)
    f0, f1, f2, f3 = widths
    for level, (width_in, width_out) in enumerate([(1, f0), (f0, f1), (f1, f2), (f2, f3), (f3, hidden)], start=1):
        shapes |= residual_block_shapes(f"encoder{level}.layer", width_in, width_out, kernel)
    for level, width_in, width_out in ((5, hidden, f3), (4, f3, f2), (3, f2, f1), (2, f1, f0)):
        shapes[f"decoder{level}.transp_conv.conv.weight"] = (width_in, width_out, 2, 2, 2)
        shapes |= residual_block_shapes(f"decoder{level}.conv_block", 2 * width_out, width_out, kernel)
    shapes |= residual_block_shapes("decoder1.layer", f0, f0, kernel)
    return shapes | conv_shapes("out.conv.conv", outputs, f0, 1, 1, 1)


@pytest.mark.parametrize("name", OFFICIAL)
def test_an_official_preset_has_the_official_names_shapes_and_size(name):
    config = NETWORK_PRESETS[name]
    with torch.device("meta"):
        network = build_network(config)
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    assert shapes == official_shapes(config.widths, config.hidden, (1, 5, 5), 2, 3)
    assert len(shapes) == 291
    assert sum(parameter.numel() for parameter in network.parameters()) == OFFICIAL[name]


@pytest.mark.parametrize(("name", "millions"), [("tiny", 1), ("small", 4)])
def test_our_presets_have_about_the_size_they_are_named_for(name, millions):
    with torch.device("meta"):
        network = build_network(NETWORK_PRESETS[name])
    assert sum(parameter.numel() for parameter in network.parameters()) == pytest.approx(millions * 1e6, rel=0.1)


class Official:
    """The official network in plain PyTorch, from sections 3.1 and 3.4 of the reference page; without the sigmoid."""

    def __init__(self, weights, depth):
        self.weights, self.depth = weights, depth

    def conv(self, name, x, **options):
        return functional.conv3d(x, self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias"), **options)

    def normed(self, name, x, **options):
        return functional.instance_norm(self.conv(name, x, **options))

    def residual_block(self, name, x):
        y = functional.leaky_relu(self.normed(f"{name}.conv1.conv", x, padding="same"), 0.01)
        y = self.normed(f"{name}.conv2.conv", y, padding="same")
        shortcut = self.normed(f"{name}.conv3.conv", x) if f"{name}.conv3.conv.weight" in self.weights else x
        return functional.leaky_relu(y + shortcut, 0.01)

    def gsc(self, name, x):
        near = self.normed(f"{name}.proj", x, padding=1).relu()
        near = self.normed(f"{name}.proj2", near, padding=1).relu()
        own = self.normed(f"{name}.proj3", x).relu()
        return self.normed(f"{name}.proj4", near + own).relu() + x

    def scan(self, name, branch, xz):
        part = {key: self.weights[f"{name}.{key}"] for key in (f"A{branch}_log", f"D{branch}")}
        w, b = self.weights[f"{name}.conv1d{branch}.weight"], self.weights[f"{name}.conv1d{branch}.bias"]
        x, z = xz.chunk(2, 1)
        c = functional.silu(functional.conv1d(x, w, b, padding=3, groups=len(w))[..., : x.shape[2]])
        mixed, dt = self.weights[f"{name}.x_proj{branch}.weight"] @ c, f"{name}.dt_proj{branch}"
        steps, inputs, outputs = mixed.split([mixed.shape[1] - 32, 16, 16], 1)
        delta = functional.softplus(self.weights[f"{dt}.weight"] @ steps + self.weights[f"{dt}.bias"][:, None])
        decay = torch.exp(delta[..., None] * -part[f"A{branch}_log"].exp()[:, None])  # (B, inner, L, 16)
        fresh = (delta * c)[..., None] * inputs.transpose(1, 2)[:, None]
        h, y = 0, []
        for t in range(x.shape[2]):
            h = decay[:, :, t] * h + fresh[:, :, t]
            y.append((h * outputs[:, None, :, t]).sum(-1))
        return (torch.stack(y, -1) + part[f"D{branch}"][:, None] * c) * functional.silu(z)

    def mamba_layer(self, name, x):
        norm, block = [self.weights[f"{name}.norm.{part}"] for part in ("weight", "bias")], f"{name}.mamba"
        tokens = functional.layer_norm(x.flatten(2).transpose(1, 2), x.shape[1:2], *norm)
        xz = self.weights[f"{block}.in_proj.weight"] @ tokens.transpose(1, 2)
        step = xz.shape[2] // 5
        woven = self.scan(block, "_s", torch.cat([xz[..., j::step] for j in range(step)], -1))
        y = self.scan(block, "", xz) + self.scan(block, "_b", xz.flip(-1)).flip(-1)
        y = y + torch.cat([woven[..., i::5] for i in range(5)], -1)
        return (self.weights[f"{block}.out_proj.weight"] @ y).view_as(x)

    def skips(self, x):
        for i in range(4):
            if i == 0:
                x = self.conv("vit.downsample_layers.0.0", x, stride=2, padding=(0, 3, 3))
            else:
                x = self.conv(f"vit.downsample_layers.{i}.1", functional.instance_norm(x), stride=2)
            x = self.gsc(f"vit.gscs.{i}", x)
            for j in range(self.depth):
                x = self.mamba_layer(f"vit.stages.{i}.{j}", x)
            y = functional.gelu(self.conv(f"vit.mlps.{i}.fc1", functional.instance_norm(x)))
            yield self.conv(f"vit.mlps.{i}.fc2", y)

    def __call__(self, raw):
        skips = [raw, *self.skips(raw)]
        across = [self.residual_block(f"encoder{level}.layer", skip) for level, skip in enumerate(skips, start=1)]
        x = across.pop()
        for level in (5, 4, 3, 2):
            up = functional.conv_transpose3d(x, self.weights[f"decoder{level}.transp_conv.conv.weight"], stride=2)
            x = self.residual_block(f"decoder{level}.conv_block", torch.cat([up, across.pop()], 1))
        return self.conv("out.conv.conv", self.residual_block("decoder1.layer", x))


def test_where_the_official_network_works_ours_gives_the_same():
    network = little(depth=1).double()
    raw = torch.rand(2, 1, 16, 16, 80, dtype=torch.float64)
    wanted = Official(network.state_dict(), depth=1)(raw)
    with torch.no_grad():
        torch.testing.assert_close(network(raw), wanted, rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(network.float()(raw.float()).double(), wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("strides", [(2, 2, 2), (1, 2, 2), (1, 3, 2)])
@pytest.mark.parametrize("shape", [(5, 33, 47), (1, 16, 16), (1, 1, 1), (2, 3, 2), (17, 9, 40), (16, 64, 64)])
def test_a_crop_of_any_size_comes_out_with_its_size(shape, strides):
    network = little(strides=strides, slices=5 if strides[0] == 2 else "z", depth=1)
    with torch.no_grad():
        logits = network(torch.rand(1, 1, *shape))
    assert logits.shape == (1, 3, *shape)
    assert logits.isfinite().all()


def test_the_base_network_takes_an_official_crop():
    with torch.no_grad():
        logits = build_network(NETWORK_PRESETS["base"])(torch.rand(1, 1, 16, 80, 80))
    assert logits.shape == (1, 3, 16, 80, 80)
    assert 0.1 < logits.std() < 10


@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 18, 20), (16, 40, 40)])
def test_every_weight_learns_from_a_crop_however_small_its_coarsest_stage(shape):
    network = little(depth=1, slices="z", residual=True)
    network(torch.rand(1, 1, *shape)).square().mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())
    if shape != (1, 16, 16):  # one coarse position is normed to 0 and says nothing
        dead = [name for name, parameter in network.named_parameters() if not parameter.grad.any()]
        assert [name for name in dead if "vit.stages.3" not in name and "encoder5" not in name] == []


def test_a_network_of_other_depths_names_its_parts_in_the_same_way():
    five = build_network(NetworkConfig(widths=(2, 3, 4, 5, 6), hidden=7, depth=(1, 2, 1, 1, 1), strides=(1, 2, 2)))
    keys = set(five.state_dict())
    assert {"encoder6.layer.conv1.conv.weight", "decoder6.transp_conv.conv.weight", "vit.stages.1.1.mamba.D_s"} <= keys
    assert five.state_dict()["decoder6.transp_conv.conv.weight"].shape == (7, 6, 1, 2, 2)
    assert build_network(NetworkConfig(widths=(2, 3), hidden=4))(torch.rand(1, 1, 4, 8, 8)).shape == (1, 3, 4, 8, 8)


def test_offsets_kernel_and_slices_reach_the_network():
    raw = torch.rand(1, 1, 6, 16, 16)
    network = little(depth=1, offsets=((-1, 0, 0), (0, -9, 0)), kernel=(3, 3, 3))
    assert network(raw).shape == (1, 2, 6, 16, 16)
    outputs = [little(depth=1, slices=slices)(raw) for slices in (5, "z")]
    assert not torch.allclose(*outputs)


def test_the_state_dict_carries_everything():
    first, second = little(seed=1), little(seed=2)
    raw = torch.rand(1, 1, 16, 20, 20)
    assert not torch.allclose(first(raw), second(raw))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(raw), second(raw))


def test_the_same_seed_makes_the_same_network():
    weights, again = little(seed=3).state_dict(), little(seed=3).state_dict()
    assert all(torch.equal(value, again[key]) for key, value in weights.items())


def test_forward_gives_logits_and_affinities_their_sigmoid():
    network = little()
    raw = torch.rand(1, 1, 16, 20, 20)
    with torch.no_grad():
        logits, affinities = network(raw), network.affinities(raw)
    assert logits.min() < 0 < 1 < logits.max()
    assert torch.equal(affinities, logits.sigmoid())
    assert isinstance(network, TokenUnify)
    assert network.config == LITTLE


def test_the_input_is_left_alone():
    raw = torch.rand(1, 1, 8, 20, 20)
    before = raw.clone()
    with torch.no_grad():
        little()(raw)
    assert torch.equal(raw, before)


def test_bf16_changes_affinities_little():
    network = little(depth=1, widths=(8, 12, 16, 20), kernel=(1, 3, 3))
    raw = torch.rand(1, 1, 8, 48, 48)
    with torch.no_grad():
        wanted = network.affinities(raw)
        with torch.autocast("cpu", torch.bfloat16):
            given = network.affinities(raw)
    assert given.dtype == torch.float32
    assert (given - wanted).abs().max() < 0.05
    assert (given - wanted).abs().mean() < 0.005
