import pytest
import torch
from torch import nn

from training.kit.optimizers import optimizers, restore, set_rates
from training.kit.recipe import Recipe
from training.kit.task import ParameterGroup


def adamw(weight: nn.Parameter, rate: float) -> torch.optim.Optimizer:
    (made,) = optimizers([ParameterGroup([weight], rate, weight_decay=rate)])
    made.param_groups[0]["lr"] = rate
    return made


def stepped(weight: nn.Parameter, made: torch.optim.Optimizer) -> None:
    weight.grad = torch.ones_like(weight)
    made.step()


def test_each_group_has_the_optimizer_that_it_asks_for():
    matrix, vector = nn.Parameter(torch.ones(3, 3)), nn.Parameter(torch.ones(3))
    groups = [ParameterGroup([matrix], 0.1, 0.5, muon=True), ParameterGroup([vector], 0.2)]
    muon, other = optimizers([*groups, ParameterGroup([], 0.3)])
    assert isinstance(muon, torch.optim.Muon)
    assert isinstance(other, torch.optim.AdamW)
    assert (muon.param_groups[0]["peak"], muon.param_groups[0]["weight_decay"]) == (0.1, 0.5)
    assert (other.param_groups[0]["peak"], other.param_groups[0]["weight_decay"]) == (0.2, 0.0)
    assert len(optimizers(groups[1:])) == 1


def test_rates_of_a_later_start_warm_up_again():
    early, late = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    made = optimizers([ParameterGroup([early], 2.0), ParameterGroup([late], 2.0, start=0.5)])
    recipe = Recipe(warm_up=0.1)
    groups = made[0].param_groups
    set_rates(made, recipe, progress=0.5)
    assert [group["lr"] for group in groups] == pytest.approx([1.0, 0.02])
    set_rates(made, recipe, progress=0.45)
    assert groups[1]["lr"] == pytest.approx(2.0)


def test_moments_come_back_and_rates_do_not():
    weight = nn.Parameter(torch.ones(3))
    first = adamw(weight, 0.5)
    stepped(weight, first)
    second = adamw(weight, 0.1)
    restore([second], [first.state_dict()])
    group = second.param_groups[0]
    assert (group["lr"], group["peak"], group["weight_decay"]) == (0.1, 0.1, 0.1)
    moments = second.state[weight]
    assert torch.equal(moments["exp_avg"], first.state[weight]["exp_avg"])
    assert moments["step"] == 1


def test_other_weights_are_refused():
    saved = adamw(nn.Parameter(torch.ones(3)), 0.5).state_dict()
    weights = [nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(1))]
    with pytest.raises(ValueError, match="doesn't match the size"):
        restore(optimizers([ParameterGroup(weights, 0.1)]), [saved])
    with pytest.raises(ValueError, match="longer"):
        restore([], [saved])
