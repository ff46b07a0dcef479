"""The names of all that is kept beside an input stream; the wire contract of docs/design.md."""


def forecasts_key(stream: str) -> str:
    """Return the stream of forecasts."""
    return f"{stream}:forecasts"


def dead_key(stream: str) -> str:
    """Return the stream of rejects."""
    return f"{stream}:dead"


def offset_key(stream: str, fleet: str) -> str:
    """Return the key of the last entry that a fleet has consumed."""
    return f"{stream}:offset:{fleet}"


def lease_key(stream: str, fleet: str) -> str:
    """Return the key that holds the token of the stream's owner."""
    return f"{stream}:lease:{fleet}"


def checkpoint_key(stream: str, fleet: str) -> str:
    """Return the key of a fleet's saved windows."""
    return f"{stream}:checkpoint:{fleet}"


def members_key(fleet: str) -> str:
    """Return the key of a fleet's living members."""
    return f"tidecast:members:{fleet}"
