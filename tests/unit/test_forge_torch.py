"""The forge's kernels and optimiser against PyTorch's own; where there is no torch there is nothing to test."""

from __future__ import annotations

import types

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the forge's environment has it, the runtime's has not")

from models.forge import blocked, mnist_write, soap  # noqa: E402  # needs torch
from models.forge.lenet import LeNet  # noqa: E402
from models.forge.net import Net  # noqa: E402


def images(number: int, *shape: int) -> torch.Tensor:
    return torch.randn(number, *shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("biased", [True, False])
def test_convolution_with_pooling_equals_torch_forward_and_backward(layer, biased):
    ins, outs, side = blocked.SHAPES[layer]
    made = []
    for fast in (True, False):
        x = images(48, ins, side, side).requires_grad_()
        weight = images(outs, ins, 5, 5).requires_grad_()
        bias = images(outs).requires_grad_() if biased else None
        if fast:
            y = blocked.unblock(blocked.pooled(blocked.block(x), weight, bias, layer))
        else:
            y = torch.nn.functional.max_pool2d(torch.nn.functional.conv2d(x, weight, bias), 2)
        y.backward(images(*y.shape))
        made.append([y.detach(), x.grad, weight.grad, *([bias.grad] if biased else [])])
    for ours, theirs in zip(*made, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-4)


def test_blocks_come_back_as_they_went():
    x = images(32, 3, 4, 5)
    assert torch.equal(blocked.unblock(blocked.block(x)), x)


@pytest.mark.parametrize("steps", [4, 8, 16])
def test_the_neuron_in_one_pass_is_the_neuron_of_the_other_networks(steps):
    torch.manual_seed(2)
    net = LeNet(steps, biased=True)
    x = torch.randint(0, 256, (64, 1, 28, 28)).float()
    net.calibrate(net.encode(x), 95)
    z = images(64, 6, 12, 12) * float(net.ranges[0].detach().exp())
    unit, given = torch.tensor(0.013), images(64, 6, 12, 12)
    made = []
    for spike in (net._spike, types.MethodType(Net._spike, net)):
        one = z.clone().requires_grad_()
        out, top = spike(one, unit, net.ranges[0])
        out.backward(given)
        made.append((out.detach(), top, one.grad, net.ranges.grad[0].clone()))
        net.ranges.grad = None
    (out, top, to_z, to_range), (out2, top2, to_z2, to_range2) = made
    assert torch.equal(out, out2)
    assert torch.equal(top, top2)
    torch.testing.assert_close(to_z, to_z2, rtol=1e-6, atol=0)
    torch.testing.assert_close(to_range, to_range2, rtol=1e-3, atol=1e-5)


def test_shapes_that_are_no_layers_are_refused():
    with pytest.raises(ValueError, match="not the shapes of layer 1"):
        blocked.pooled(torch.zeros(1, 1, 28, 28, 16), torch.zeros(6, 1, 5, 5), None, 1)
    with pytest.raises(ValueError, match="multiple of 16"):
        blocked.spiked(torch.zeros(15), torch.zeros(()), 1.0, 2.0, 8)


def test_soap_is_adam_where_there_is_no_matrix():
    made = []
    for kind in (soap.Soap, lambda p, **kw: torch.optim.AdamW(p, betas=(soap.MOMENTUM, soap.MEMORY), **kw)):
        parameter = torch.nn.Parameter(images(7))
        optimiser = kind([parameter], lr=0.03, weight_decay=0.1)
        for _ in range(25):
            optimiser.zero_grad()
            ((parameter - 1) ** 4).sum().backward()
            optimiser.step()
        made.append(parameter.detach())
    torch.testing.assert_close(*made)


def test_soap_beats_adam_where_the_axes_are_turned():
    basis = torch.linalg.qr(images(12, 12))[0]
    slopes = torch.logspace(0, -3, 12)
    reached = []
    for kind in (soap.Soap, torch.optim.AdamW):
        parameter = torch.nn.Parameter(images(12, 8))
        optimiser = kind([parameter], lr=0.02, weight_decay=0.0)
        for _ in range(300):
            optimiser.zero_grad()
            loss = (slopes[:, None] * (basis @ parameter) ** 2).sum()
            loss.backward()
            optimiser.step()
        reached.append(float(loss.detach()))
    assert reached[0] < 0.5 * reached[1]


def test_a_centred_last_layer_answers_as_before():
    net = LeNet(8, biased=True)
    with torch.no_grad():
        net.weights[-1].add_(images(120))
        net.bias.sub_(3)
    x = torch.rand(16, 1, 28, 28, generator=torch.Generator().manual_seed(4))
    before = torch.log_softmax(net(x), 1)
    net.centre()
    assert float(net.weights[-1].detach().mean(0).abs().max()) < 1e-6
    torch.testing.assert_close(torch.log_softmax(net(x), 1), before, rtol=1e-4, atol=1e-4)


def test_the_last_ramp_lets_the_winner_fire_alone():
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 10, 400).astype(np.uint8)
    potentials = rng.integers(-900, 0, (400, 10)).astype(np.float64)
    potentials[np.arange(400), labels] = rng.integers(300, 900, 400)
    rival = (labels + 1) % 10
    potentials[np.arange(400), rival] = potentials[np.arange(400), labels] - 150
    ramp = mnist_write.last_ramp(potentials, labels, 8)
    a = np.clip((potentials + ramp // 2) // ramp, 0, 8)
    assert (a.argmax(1) == labels).mean() > 0.95
