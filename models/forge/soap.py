"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner (Vyas et al. 2024, arXiv:2409.11321, Algorithm 3).

LeNet's matrices are small (at most 120 × 192), so turning them costs a fifth of a step, and 30 passes fit what AdamW
needs 150 for.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

MOMENTUM = 0.9
MEMORY = 0.98
"""Of the second moments and of the preconditioner."""
EVERY = 10
"""Steps between two refreshes of the eigenbasis."""


class Soap(torch.optim.Optimizer):
    """A tensor of two axes or more is a matrix, its first axis against the others; one of one axis gets Adam."""

    def __init__(self, parameters: Iterable[Tensor], lr: float, weight_decay: float) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """One update from the gradients; the first only measures, since there is no eigenbasis before it."""
        if closure is not None:
            raise ValueError("a closure is not supported: compute the gradients before step")
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    _update(parameter, parameter.grad.flatten(1) if parameter.dim() > 1 else parameter.grad,
                            self.state[parameter], group)  # fmt: skip


def _update(parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    matrix = gradient.dim() > 1
    if not state:
        state.update(step=0, first=torch.zeros_like(gradient), second=torch.zeros_like(gradient))
        if matrix:
            state["sides"] = [torch.zeros(n, n) for n in gradient.shape]
    if matrix:
        for side, product in zip(state["sides"], (gradient @ gradient.T, gradient.T @ gradient), strict=True):
            side.lerp_(product, 1 - MEMORY)
        if "bases" not in state:
            state["bases"] = [torch.linalg.eigh(side)[1].flip(1) for side in state["sides"]]
            return
    state["step"] += 1
    state["first"].lerp_(gradient, 1 - MOMENTUM)
    turned = _turn(gradient, state) if matrix else gradient
    state["second"].lerp_(turned * turned, 1 - MEMORY)
    mean = (_turn(state["first"], state) if matrix else state["first"]) / (1 - MOMENTUM ** state["step"])
    update = mean / ((state["second"] / (1 - MEMORY ** state["step"])).sqrt() + 1e-8)
    if matrix:
        left, right = state["bases"]
        update = left @ update @ right.T
    parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(update.view_as(parameter), alpha=-group["lr"])
    if matrix and state["step"] % EVERY == 0:
        _refresh(state)


def _turn(value: Tensor, state: dict[str, Any]) -> Tensor:
    left, right = state["bases"]
    return left.T @ value @ right  # type: ignore[no-any-return]  # the state has no static types


def _refresh(state: dict[str, Any]) -> None:
    """One step of the power method and a QR decomposition (Algorithm 4), eigenvectors in falling order."""
    for axis, side in enumerate(state["sides"]):
        basis = state["bases"][axis]
        order = (basis.T @ side @ basis).diagonal().argsort(descending=True)
        state["second"] = state["second"].index_select(axis, order)
        state["bases"][axis] = torch.linalg.qr(side @ basis[:, order])[0]
