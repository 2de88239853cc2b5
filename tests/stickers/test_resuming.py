import pytest
import torch
from torch import nn

from services.stickers.resuming import go_on


def optimizer(weight: nn.Parameter, rate: float) -> torch.optim.Optimizer:
    group = {"params": [weight], "lr": rate, "peak": rate, "weight_decay": rate}
    return torch.optim.AdamW([group])


def stepped(weight: nn.Parameter, made: torch.optim.Optimizer) -> None:
    weight.grad = torch.ones_like(weight)
    made.step()


def test_moments_come_back_and_rates_do_not():
    weight = nn.Parameter(torch.ones(3))
    first = optimizer(weight, 0.5)
    stepped(weight, first)
    second = optimizer(weight, 0.1)
    go_on([second], [first.state_dict()])
    group = second.param_groups[0]
    assert (group["lr"], group["peak"], group["weight_decay"]) == (0.1, 0.1, 0.1)
    moments = second.state[weight]
    assert torch.equal(moments["exp_avg"], first.state[weight]["exp_avg"])
    assert moments["step"] == 1


def test_it_steps_as_if_it_had_never_stopped():
    whole, broken = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    one, before = optimizer(whole, 0.5), optimizer(broken, 0.5)
    for _ in range(2):
        stepped(whole, one)
    stepped(broken, before)
    after = optimizer(broken, 0.5)
    go_on([after], [before.state_dict()])
    stepped(broken, after)
    assert torch.equal(whole, broken)


def test_other_weights_are_refused():
    saved = optimizer(nn.Parameter(torch.ones(3)), 0.5).state_dict()
    other = torch.optim.AdamW([nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(1))])
    with pytest.raises(ValueError, match="doesn't match the size"):
        go_on([other], [saved])
    with pytest.raises(ValueError, match="longer"):
        go_on([], [saved])
