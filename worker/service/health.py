"""What the probes of a container platform ask: has it started, is it ready, does it live; pure.

None of the answers makes a restart out of a server's outage: a worker that waits for its server is
well, and only its own loop's standstill tells that it is not.
"""

from dataclasses import dataclass

LONGEST_SILENCE = 60.0
"""Seconds without a heartbeat that pass for a standstill: several times the longest that one call
to a server may take, and one run of a model's parts."""


@dataclass(slots=True)
class Health:
    """What a worker's loop says of itself; other threads only read it.

    ``beat_at`` is when the loop last passed by, in monotonic seconds (None: it does not run yet),
    ``started`` whether the windows of its first partitions stand, ``outage`` what keeps the server
    from it (None: it is connected), and ``stuck`` what is wrong with the partitions that it should
    hold, where that is so of all of them.
    """

    beat_at: float | None = None
    started: bool = False
    outage: str | None = "not connected to the server yet"
    stuck: str | None = None

    def silence(self, now: float) -> float:
        """Return for how many seconds the loop has not passed by."""
        return 0.0 if self.beat_at is None else max(0.0, now - self.beat_at)

    def not_started(self) -> str | None:
        """Return why it has not started, None if it has."""
        if self.started:
            return None
        return self.outage or "the windows of the first partitions are being made again"

    def not_ready(self) -> str | None:
        """Return why it is not ready, None if it is; a worker without partitions is."""
        return self.not_started() or self.outage or self.stuck

    def not_alive(self, now: float) -> str | None:
        """Return why it is to be started anew, None if it is not."""
        silence = self.silence(now)
        if silence <= LONGEST_SILENCE:
            return None
        return f"the loop has stood still for {silence:.0f} s"
