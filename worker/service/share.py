"""Which member of a fleet takes which partition; pure."""

from collections.abc import Collection, Mapping


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
    followers = {
        partition: sorted(name for name, follows in members.items() if partition in follows)
        for partition in sorted(owners)
    }
    shares = {
        partition: owner
        for partition, owner in sorted(owners.items())
        if owner is not None and owner in followers[partition]
    }
    load = dict.fromkeys(sorted(members), 0)
    for owner in shares.values():
        load[owner] += 1
    for partition, able in followers.items():
        if able and partition not in shares:
            shares[partition] = min(able, key=load.__getitem__)
            load[shares[partition]] += 1
    while (move := _unfair(shares, followers, load)) is not None:
        partition, taker = move
        load[shares[partition]] -= 1
        load[taker] += 1
        shares[partition] = taker
    return shares


def _unfair(
    shares: Mapping[str, str], followers: Mapping[str, list[str]], load: Mapping[str, int]
) -> tuple[str, str] | None:
    """Return a partition and who should rather have it, the greatest difference first."""
    worst, move = 1, None
    for partition, owner in shares.items():
        taker = min(followers[partition], key=load.__getitem__)
        difference = load[owner] - load[taker]
        if difference > worst:
            worst, move = difference, (partition, taker)
    return move
