"""Which trouble is news: an outage is told once, not at every attempt to get over it; pure."""

from dataclasses import dataclass, field

CALM = 30.0
"""Seconds without any trouble that end an outage."""
MOST_TOLD = 10


@dataclass
class Outage:
    """The reasons told since the last calm."""

    told: set[str] = field(default_factory=set)
    calm_at: float = float("-inf")

    def is_news(self, reason: str, now: float) -> bool:
        """Tell whether to tell a reason that comes up at ``now``, in monotonic seconds.

        Each is news once in an outage, so that what lies behind the first is not kept back; of
        reasons that never read the same, ``MOST_TOLD``.
        """
        if now >= self.calm_at:
            self.told.clear()
        self.calm_at = now + CALM
        news = reason not in self.told and len(self.told) < MOST_TOLD
        if news:
            self.told.add(reason)
        return news
