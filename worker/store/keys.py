"""The names of all that is kept beside an input stream; the wire contract of docs/design.md.

Whatever is a fleet's own has its name. What the fleet ``default`` writes for others to read has
none: most have but this one, and whoever listens need not know that there are fleets.
"""

import re

from tidecast.worker.pipeline.wire import DEFAULT_FLEET

FLEET = re.compile(r"[^{}:]{1,128}")
"""What a fleet may be called."""
CHANNELS_OF_OTHERS = "forecast@*"
"""The channels of all fleets but ``default``."""


def forecasts_key(stream: str, fleet: str) -> str:
    """Return the stream of a fleet's forecasts."""
    return f"{stream}:forecasts" + _own(fleet)


def dead_key(stream: str, fleet: str) -> str:
    """Return the stream of what a fleet rejects."""
    return f"{stream}:dead" + _own(fleet)


def channel_of(fleet: str, series: str = "") -> str:
    """Return the channel on which a fleet publishes the forecasts of a series."""
    return f"forecast:{series}" if fleet == DEFAULT_FLEET else f"forecast@{fleet}:{series}"


def offset_key(stream: str, fleet: str) -> str:
    """Return the key of the last entry that a fleet has consumed."""
    return f"{stream}:offset:{fleet}"


def lease_key(stream: str, fleet: str) -> str:
    """Return the key that holds the token of the stream's owner."""
    return f"{stream}:lease:{fleet}"


def checkpoint_key(stream: str, fleet: str) -> str:
    """Return the key of a fleet's saved windows."""
    return f"{stream}:checkpoint:{fleet}"


def fleets_key(stream: str) -> str:
    """Return the key of the list of fleets that have ever read a stream."""
    return f"{stream}:fleets"


def group_of(fleet: str) -> str:
    """Return the name of a fleet's consumer group, which no other application gives to its own."""
    return f"tidecast:{fleet}"


def members_key(fleet: str) -> str:
    """Return the key of a fleet's living members."""
    return f"tidecast:members:{fleet}"


def _own(fleet: str) -> str:
    return "" if fleet == DEFAULT_FLEET else f":{fleet}"
