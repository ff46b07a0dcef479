"""The worker's reads and commits without decoding, windows and model: the floor under its latency.

python -m tests.benchmarks.relay --redis-url unix:///path --input STREAM
"""

import argparse
import signal
import sys

from tidecast.worker.pipeline.wire import Position
from tidecast.worker.store import server
from tidecast.worker.store.commit import Committer
from tidecast.worker.store.keys import lease_key
from tidecast.worker.store.source import Streams

RECORD = (
    b'{"series":"%b","at":%b,"step":null,"model":"small","version":"abcdef","entry":"%b",'
    b'"forecast":{"value":[%b]}}'
)


def relay(url: str, stream: str) -> None:
    """Publish each flat reading's own value as its forecast, in the worker's commit."""
    client = server.connect(url, patience=10, notice=print)
    streams = Streams(client=client, count=1000, block_ms=500)
    client.set(lease_key(stream, "default"), "relay")
    committer = Committer(
        client, "default", "relay", longest_forecasts=1_000_000, longest_dead=10_000
    )
    stands = streams.beginning(stream, at_end=True)
    committer.begin(stream, stands)
    reader = streams.follow({stream: stands.offset})
    offset, count = stands.offset, stands.entries or 0
    while True:
        for entries in reader.read().values():
            names = [fields[1] for _, fields in entries]
            records = [RECORD % (f[1], f[3], entry_id, f[5]) for entry_id, f in entries]
            new = entries[-1][0].decode()
            count += len(entries)
            committer.send(stream, offset, Position(new, count), names, records, [])
            offset = new


def main() -> None:
    """Relay until told to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--redis-url", required=True)
    parser.add_argument("--input", required=True)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    relay(options.redis_url, options.input)


if __name__ == "__main__":
    main()
