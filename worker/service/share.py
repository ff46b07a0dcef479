"""Which member of a fleet takes which partition; pure."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from heapq import heappop, heappush


def share_out(
    members: Mapping[str, Collection[str]], owners: Mapping[str, str | None]
) -> dict[str, str]:
    """Return the member that each partition should belong to.

    Every member computes this for itself, and all come to the same result when they see the same:
    no member has two partitions more than another that follows one of them. Where all follow the
    same, no partition moves that need not.

    Args:
        members: the partitions that each living member follows.
        owners: the partitions' present owners, None where there is none. A partition that nobody
            alive follows is left out of the result.
    """
    follows = {name: frozenset(members[name]) for name in sorted(members)}
    followers = {
        partition: tuple(name for name, its in follows.items() if partition in its)
        for partition in sorted(owners)
    }
    shares = {
        partition: owner
        for partition, owner in sorted(owners.items())
        if owner is not None and owner in followers[partition]
    }
    load = dict.fromkeys(follows, 0)
    for owner in shares.values():
        load[owner] += 1
    for partition, able in followers.items():
        if able and partition not in shares:
            shares[partition] = min(able, key=load.__getitem__)
            load[shares[partition]] += 1
    _even_out(shares, followers, load)
    return shares


def _even_out(
    shares: dict[str, str], followers: Mapping[str, tuple[str, ...]], load: dict[str, int]
) -> None:
    """Move partitions to members that have two less, where the difference is greatest first.

    Partitions of one owner that the same members follow are alike: of each such kind, the one first
    in order moves. So a move costs as much as there are kinds, and not as there are partitions.
    """
    kinds = defaultdict[tuple[str, tuple[str, ...]], list[tuple[int, str]]](list)
    for place, (partition, owner) in enumerate(shares.items()):
        kinds[owner, followers[partition]].append((place, partition))
    while True:
        worst, move = (1, 0), None
        for kind, partitions in kinds.items():
            if partitions:
                owner, able = kind
                taker = min(able, key=load.__getitem__)
                unfair = load[owner] - load[taker], -partitions[0][0]
                if unfair[0] > 1 and unfair > worst:
                    worst, move = unfair, (kind, taker)
        if move is None:
            return
        (owner, able), taker = move
        place, partition = heappop(kinds[owner, able])
        heappush(kinds[taker, able], (place, partition))
        load[owner] -= 1
        load[taker] += 1
        shares[partition] = taker
