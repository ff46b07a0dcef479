"""The worker's job as a FastStream app: a batch subscriber of the stream, the injected pipeline.

    python -m tests.benchmarks.peers.faststream_peer --redis-url URL --model FILE --input STREAM

At least once: a batch is acknowledged after its forecasts are written, but the entries of a
consumer that died wait for somebody to claim them. Windows start anew with the process.
"""

import asyncio
from contextlib import suppress

from faststream import FastStream
from faststream.redis import Pipeline, RedisBroker, StreamSub
from faststream.redis.annotations import RedisBatchStreamMessage
from redis import ResponseError

from tests.benchmarks.peers.job import Job, Window, options

args = options(__doc__)
job = Job(args.model)
windows: dict[str, Window] = {}
broker = RedisBroker(args.redis_url, logger=None)
app = FastStream(broker, logger=None)
readings = StreamSub(args.input, group="peer", consumer="peer-1", batch=True, max_records=1000)


@app.on_startup
async def create_group() -> None:
    """Start at the stream's first entry; the broker would make a group that starts at its end."""
    client = await broker.connect()
    with suppress(ResponseError):  # the group is there already
        await client.xgroup_create(args.input, "peer", id="0", mkstream=True)


@broker.subscriber(stream=readings)
async def forecast(
    batch: list[dict[str, str]], message: RedisBatchStreamMessage, pipe: Pipeline
) -> None:
    """Forecast after every reading of a batch."""
    for place, fields in zip(message.raw_message["message_ids"], batch, strict=True):
        series = fields["series"]
        windows[series], bodies = job.step(windows.get(series), (place.decode(), fields))
        for body in bodies:
            # The broker's own publish would wrap them in FastStream's message format.
            pipe.xadd(f"{args.input}:forecasts", {"series": series, "forecast": body})
            pipe.publish(f"forecast:{series}", body)
    await pipe.execute()


if __name__ == "__main__":
    asyncio.run(app.run())
