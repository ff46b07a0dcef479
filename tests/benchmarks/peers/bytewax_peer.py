"""The worker's job as a Bytewax dataflow: batches in, windows as keyed state, batches out.

    python -m tests.benchmarks.peers.bytewax_peer --redis-url URL --model FILE --input STREAM

No recovery store is set up: a restart reads the stream anew and forecasts all of it again.
"""

from typing import Any

import redis
from bytewax import operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import DynamicSource, StatelessSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.run import cli_main

from tests.benchmarks.peers.job import Entry, Job, options

args = options(__doc__)
job = Job(args.model)
client = redis.Redis.from_url(args.redis_url, decode_responses=True)


class Batches(StatelessSourcePartition[Entry]):
    last = "0"

    def next_batch(self) -> list[Entry]:
        streams: Any = client.xread({args.input: self.last}, count=1000)
        entries: list[Entry] = streams[0][1] if streams else []
        self.last = entries[-1][0] if entries else self.last
        return entries


class Readings(DynamicSource[Entry]):
    def build(self, _step: str, _worker: int, _workers: int) -> Batches:
        return Batches()


class Pipelined(StatelessSinkPartition[tuple[str, bytes]]):
    def write_batch(self, items: list[tuple[str, bytes]]) -> None:
        with client.pipeline(transaction=False) as pipe:
            for series, body in items:
                pipe.xadd(f"{args.input}:forecasts", {"series": series, "forecast": body})
                pipe.publish(f"forecast:{series}", body)
            pipe.execute()


class Forecasts(DynamicSink[tuple[str, bytes]]):
    def build(self, _step: str, _worker: int, _workers: int) -> Pipelined:
        return Pipelined()


flow = Dataflow("forecasts")
keyed = op.key_on("series", op.input("readings", flow, Readings()), lambda e: e[1]["series"])
op.output("forecasts", op.stateful_flat_map("forecast", keyed, job.step), Forecasts())

if __name__ == "__main__":
    cli_main(flow)
