"""How a fleet shares its partitions: all of them, evenly, and with as few moves as can be."""

from collections import Counter
from collections.abc import Sequence
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from tidecast.worker.service.share import share_out

PARTITIONS = tuple(f"p{i}" for i in range(8))
MEMBERS = [f"m{i}" for i in range(5)]
DEAD = "dead"

Members = dict[str, Sequence[str]]
Owners = dict[str, str | None]

some_partitions = st.lists(st.sampled_from(PARTITIONS), unique=True)
mixed_members = st.dictionaries(st.sampled_from(MEMBERS), some_partitions, max_size=5)
alike_members = st.lists(st.sampled_from(MEMBERS), min_size=1, unique=True).map(
    lambda names: dict.fromkeys(names, PARTITIONS)
)
all_owners = st.dictionaries(
    st.sampled_from(PARTITIONS), st.none() | st.sampled_from([*MEMBERS, DEAD])
)


def moved(members: Members, owners: Owners, shares: dict[str, str]) -> list[str]:
    """Return the partitions that a living follower has to give up."""
    return [p for p, o in owners.items() if o in members and p in members[o] and shares[p] != o]


def fewest_moves(members: Members, owners: Owners) -> int:
    """Return how many must move until loads are even, where everybody follows everything."""
    size, larger = divmod(len(owners), len(members))
    had = Counter(owner for owner in owners.values() if owner in members)
    loads = sorted((had[name] for name in members), reverse=True)
    return sum(max(0, load - size - (place < larger)) for place, load in enumerate(loads))


@given(mixed_members, all_owners)
def test_every_partition_goes_to_a_living_follower(members: Members, owners: Owners) -> None:
    shares = share_out(members, owners)
    followed = {p for p in owners if any(p in follows for follows in members.values())}
    assert set(shares) == followed
    assert all(partition in members[owner] for partition, owner in shares.items())


@given(mixed_members, all_owners)
def test_nobody_has_two_more_than_a_follower_of_his(members: Members, owners: Owners) -> None:
    shares = share_out(members, owners)
    load = Counter(shares.values())
    for partition, owner in shares.items():
        able = [name for name, follows in members.items() if partition in follows]
        assert load[owner] - min(load[name] for name in able) <= 1


@given(alike_members, all_owners)
def test_loads_differ_by_one_where_all_follow_the_same(members: Members, owners: Owners) -> None:
    load = Counter(share_out(members, owners).values())
    assert max(load[name] for name in members) - min(load[name] for name in members) <= 1


@given(mixed_members, all_owners)
def test_what_is_shared_out_stays(members: Members, owners: Owners) -> None:
    shares = share_out(members, owners)
    assert share_out(members, shares) == shares


@given(mixed_members, all_owners, st.randoms(use_true_random=False))
def test_all_members_come_to_the_same(members: Members, owners: Owners, random: Random) -> None:
    """In whatever order a member learnt of the others and of the partitions."""
    names, partitions = list(members), list(owners)
    random.shuffle(names)
    random.shuffle(partitions)
    others = {name: random.sample(members[name], len(members[name])) for name in names}
    assert share_out(others, {p: owners[p] for p in partitions}) == share_out(members, owners)


@given(alike_members, all_owners)
def test_no_more_move_than_must(members: Members, owners: Owners) -> None:
    shares = share_out(members, owners)
    assert len(moved(members, owners, shares)) == fewest_moves(members, owners)


@given(alike_members, all_owners)
def test_what_was_given_up_moves_nothing_else(members: Members, owners: Owners) -> None:
    """Between the giving and the taking a partition has no owner."""
    given_up = set(moved(members, owners, share_out(members, owners)))
    between = {p: None if p in given_up else owner for p, owner in owners.items()}
    assert moved(members, between, share_out(members, between)) == []


def test_a_third_member_takes_a_third() -> None:
    owners: Owners = {f"p{i}": "a" if i < 3 else "b" for i in range(6)}
    shares = share_out(dict.fromkeys("abc", tuple(owners)), owners)
    assert Counter(shares.values()) == {"a": 2, "b": 2, "c": 2}
    assert {shares[p] for p in owners if shares[p] != owners[p]} == {"c"}


def test_a_dead_members_partitions_go_to_the_idle() -> None:
    owners: Owners = {"p0": DEAD, "p1": DEAD, "p2": "a", "p3": "a"}
    shares = share_out(dict.fromkeys("ab", tuple(owners)), owners)
    assert shares == {"p0": "b", "p1": "b", "p2": "a", "p3": "a"}


def test_a_fleet_of_none_has_nothing() -> None:
    assert share_out({}, {"p": "a"}) == {}
