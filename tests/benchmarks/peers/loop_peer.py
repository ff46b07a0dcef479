"""The worker's job as a plain redis-py loop over a consumer group, one reading at a time.

    python -m tests.benchmarks.peers.loop_peer --redis-url URL --model FILE --input STREAM

At least once: a reading's forecast and its acknowledgement are one transaction, but the entries of
a consumer that died wait for somebody to claim them. Windows start anew with the process.
"""

from contextlib import suppress
from typing import Any

import redis

from tests.benchmarks.peers.job import Job, Window, options

GROUP, CONSUMER = "peer", "peer-1"


def main() -> None:
    """Forecast after every reading, from the stream's first, until killed."""
    args = options(__doc__)
    job = Job(args.model)
    windows: dict[str, Window] = {}
    client = redis.Redis.from_url(args.redis_url, decode_responses=True)
    with suppress(redis.ResponseError):  # the group is there already
        client.xgroup_create(args.input, GROUP, id="0", mkstream=True)
    while True:
        streams: Any = client.xreadgroup(GROUP, CONSUMER, {args.input: ">"}, count=100, block=1000)
        for entry in streams[0][1] if streams else ():
            series = entry[1]["series"]
            windows[series], bodies = job.step(windows.get(series), entry)
            with client.pipeline() as pipe:
                for body in bodies:
                    pipe.xadd(f"{args.input}:forecasts", {"series": series, "forecast": body})
                    pipe.publish(f"forecast:{series}", body)
                pipe.xack(args.input, GROUP, entry[0])
                pipe.execute()


if __name__ == "__main__":
    main()
