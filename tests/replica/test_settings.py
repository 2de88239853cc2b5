"""All replicas are set in one vocabulary."""

import pytest

from services.planner.settings import PlannerSettings
from services.replica.settings import ReplicaSettings
from services.segmenter.settings import SegmenterSettings


@pytest.mark.parametrize("settings", [PlannerSettings, SegmenterSettings])
def test_names_say_their_units_and_bounds(settings: type[ReplicaSettings]) -> None:
    for name, field in settings.model_fields.items():
        assert field.description, name
        assert not name.endswith(("_ms", "_workers", "_seconds", "_mb")), name


@pytest.mark.parametrize("settings", [PlannerSettings, SegmenterSettings])
def test_an_engine_that_is_not_registered_is_refused(settings: type[ReplicaSettings]) -> None:
    with pytest.raises(ValueError, match="there is no engine 'tensorflow'; one of transformers"):
        settings(engine="tensorflow")
