"""The names of keys are a contract with whoever looks at the server."""

from tidecast.worker.store import keys


def test_names_are_those_of_the_design() -> None:
    assert keys.forecasts_key("readings", "default") == "readings:forecasts"
    assert keys.forecasts_key("readings", "f") == "readings:forecasts:f"
    assert keys.dead_key("readings", "default") == "readings:dead"
    assert keys.dead_key("readings", "f") == "readings:dead:f"
    assert keys.channel_of("default", "boiler") == "forecast:boiler"
    assert keys.channel_of("f", "boiler") == "forecast@f:boiler"
    assert keys.offset_key("readings", "f") == "readings:offset:f"
    assert keys.lease_key("readings", "f") == "readings:lease:f"
    assert keys.checkpoint_key("readings", "f") == "readings:checkpoint:f"
    assert keys.fleets_key("readings") == "readings:fleets"
    assert keys.group_of("f") == "tidecast:f"
    assert keys.members_key("f") == "tidecast:members:f"
