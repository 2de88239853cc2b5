from dataclasses import replace

from training.planner.recipe import ADAPTING, FINE_TUNING, SCRATCH


def test_only_a_new_model_has_dense_targets():
    assert SCRATCH.dense
    assert not FINE_TUNING.dense
    assert not ADAPTING.dense
    assert replace(FINE_TUNING, dense_weight=0.3).dense


def test_fine_tuning_is_slow_and_slower_without_adapters():
    rates = [recipe.learning_rate for recipe in (SCRATCH, ADAPTING, FINE_TUNING)]
    assert rates == sorted(rates, reverse=True)
    assert SCRATCH.muon_learning_rate > 0 == FINE_TUNING.muon_learning_rate
