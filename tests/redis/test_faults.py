"""Nothing lost, nothing twice: the short campaigns, and each guard proved by its absence."""

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
import redis

from tests.redis import campaigns, partition_campaigns
from tests.redis.campaigns import GRID, Nursery, nursery
from tests.redis.servers import Server


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Nursery]:
    with nursery(tmp_path / "nursery", **GRID) as home:
        yield home


def test_a_worker_killed_at_any_moment(home: Nursery, durable_server: Server) -> None:
    outcome, killed = campaigns.kills(home, durable_server, 26, Random(1))
    assert outcome.flawless, outcome
    assert set(killed) == {"at random", *campaigns.STEPS}
    assert outcome.forecasts > 26 * 160


def test_a_network_that_lies(home: Nursery, durable_server: Server) -> None:
    outcome, hits = campaigns.network(home, durable_server, 110, Random(2))
    assert outcome.flawless, (outcome, hits)
    assert sum(hits.values()) >= 110, hits
    assert sum(map(bool, hits.values())) >= 5, hits


def test_a_server_that_dies(home: Nursery, durable_server: Server) -> None:
    outcome, done = campaigns.server_kills(home, durable_server, 11, Random(3))
    assert outcome.flawless, outcome
    assert done == {"killed": 11, "cut": 5}
    assert outcome.forecasts > 800


def test_an_owner_that_sleeps_through_its_lease(home: Nursery, durable_server: Server) -> None:
    outcome = campaigns.pauses(home, durable_server, 6, Random(4))
    assert outcome.flawless, outcome
    assert campaigns.stale_commits(home, durable_server, Random(5)) == 0


def test_workers_that_come_and_go(home: Nursery, durable_server: Server) -> None:
    outcome = campaigns.fleet(home, durable_server, 20, Random(6))
    assert outcome.flawless, outcome
    assert outcome.forecasts > 800


def test_a_server_in_trouble_and_clocks_that_jump(home: Nursery, durable_server: Server) -> None:
    outcome = campaigns.troubles(home, durable_server, 12, Random(7))
    assert outcome.flawless, outcome


def test_a_key_in_the_way(home: Nursery, durable_server: Server) -> None:
    assert campaigns.key_in_the_way(home, durable_server, Random(8)).flawless


def use_up(client: redis.Redis) -> None:
    """Leave the stream of rejects without an id for another entry."""
    client.xadd("readings:dead", {"in": "the way"}, id=partition_campaigns.LAST)


def test_rejects_without_an_id_left(home: Nursery, durable_server: Server) -> None:
    assert campaigns.key_in_the_way(home, durable_server, Random(8), use_up).flawless


def test_a_partition_in_trouble_leaves_the_others_alone(
    home: Nursery, durable_server: Server
) -> None:
    turns = len(partition_campaigns.FAULTS)
    outcome, done = partition_campaigns.one_in_trouble(home, durable_server, turns, Random(10))
    assert outcome.flawless, outcome
    assert set(done) == set(partition_campaigns.FAULTS)
    assert outcome.forecasts > 800


def test_partitions_in_trouble_while_workers_die(home: Nursery, durable_server: Server) -> None:
    outcome, _ = partition_campaigns.troubles_in_a_storm(home, durable_server, 10, Random(11))
    assert outcome.flawless, outcome
    assert outcome.forecasts > 800


def test_if_trouble_were_all_partitions_the_campaign_would_see_it(
    home: Nursery, durable_server: Server
) -> None:
    # One of the three workers has but one partition, so the first turn may show nothing.
    with pytest.raises(AssertionError, match="were restored, too"):
        partition_campaigns.one_in_trouble(
            home, durable_server, 9, Random(10), faults=["thief"], together=True
        )


def test_without_the_lease_check_a_sleeper_writes(home: Nursery, durable_server: Server) -> None:
    assert campaigns.stale_commits(home, durable_server, Random(5), without="lease") > 0


def test_without_the_offset_check_a_late_commit_counts_twice(
    home: Nursery, durable_server: Server
) -> None:
    assert campaigns.late_commit(home, durable_server, Random(9)).flawless
    with durable_server.client() as client:
        client.flushall()
    outcome = campaigns.late_commit(home, durable_server, Random(9), without="offset")
    assert outcome.doubled > 0, outcome


@pytest.mark.parametrize(("guard", "flaw"), [("checks", "doubled"), ("order", "lost")])
def test_without_checks_before_the_first_write_half_a_commit_stands(
    home: Nursery, durable_server: Server, guard: str, flaw: str
) -> None:
    outcome = campaigns.key_in_the_way(home, durable_server, Random(8), without=guard)
    assert getattr(outcome, flaw) > 0, outcome


def test_without_a_look_at_ids_half_a_commit_stands(home: Nursery, durable_server: Server) -> None:
    outcome = campaigns.key_in_the_way(home, durable_server, Random(8), use_up, without="ids")
    assert outcome.doubled > 0, outcome
