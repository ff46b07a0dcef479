"""The names of keys are a contract with whoever looks at the server."""

from tidecast.worker.store import keys


def test_names_are_those_of_the_design() -> None:
    assert keys.forecasts_key("readings") == "readings:forecasts"
    assert keys.dead_key("readings") == "readings:dead"
    assert keys.offset_key("readings", "f") == "readings:offset:f"
    assert keys.lease_key("readings", "f") == "readings:lease:f"
    assert keys.checkpoint_key("readings", "f") == "readings:checkpoint:f"
    assert keys.members_key("f") == "tidecast:members:f"
