"""How much memory each part of a worker may take, of what there is for all of it; pure.

What is left beside the models, half of it is for windows and whatever else is kept of series, in
equal parts for all streams that the worker follows: it may come to hold all of them, and what a
stream keeps of its series is not to hang on which others the worker holds. The other half is for
what passes through: reads on their way and in hand, documents that take a few times their bytes,
windows that go through a model, forecasts of an entry, sections of a checkpoint.
"""

import math
from dataclasses import dataclass

from tidecast.worker.pipeline.step import ANY_ROOM, Room
from tidecast.worker.store.source import LARGEST_REPLY

MB = 1_000_000
BUFFERS = 40 * MB
"""Bytes that any worker takes beside its models once it works: libraries, buffers, two commits."""
SMALLEST = 64 * MB
"""Bytes beside models and buffers with which a worker is of use."""
COARSE = 32 * MB
FEW_SERIES = 20
SHARE_OF_CONTAINER = 0.9
"""Of a container's memory, that of the process: the kernel counts some of its own."""
SHARE_BESIDE_A_SERVER = 0.5
"""The same where the embedded server lives in the container, too."""
PASSING = 16
"""Parts of what is left that one read takes at most. Decoding may take eight times its bytes."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What parts of a worker may take.

    ``reply`` bytes of one read from the server, ``room`` that of each stream's pipeline.
    """

    reply: int = LARGEST_REPLY
    room: Room = ANY_ROOM


def budget_of(most: int, used: int, streams: int) -> Budget:
    """Return how a worker of ``most`` bytes of memory divides them; see ``least``.

    What is used counts in coarse steps: it is not quite the same at each start, and the room for
    series should be.

    Args:
        most: bytes of all of it.
        used: bytes of it when its models are loaded.
        streams: how many it follows.
    """
    left = max(SMALLEST, most - math.ceil(used / COARSE) * COARSE - BUFFERS)
    part = left // PASSING
    room = Room(
        series=left // 2 // streams,
        windows=min(ANY_ROOM.windows, part),
        forecasts=min(ANY_ROOM.forecasts, part),
    )
    return Budget(min(LARGEST_REPLY, part), room)


def least(used: int, streams: int = 1, each: int = 0) -> int:
    """Return the bytes with which a worker is of use whose models are loaded in ``used``.

    Each of its streams has room for a few series then, which take ``each`` bytes.
    """
    return used + COARSE + BUFFERS + max(SMALLEST, 2 * streams * FEW_SERIES * each)
