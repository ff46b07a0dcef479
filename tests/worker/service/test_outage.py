"""When a trouble is told."""

from tidecast.worker.service.outage import CALM, MOST_TOLD, Outage


def test_an_outage_is_told_once_however_long_it_lasts() -> None:
    outage = Outage()
    times = [i * CALM / 2 for i in range(1000)]
    assert [outage.is_news("refused", at) for at in times] == [True] + [False] * 999


def test_what_lies_behind_the_first_reason_is_told_too() -> None:
    outage = Outage()
    reasons = ["closed", "refused", "closed", "memory full", "refused", "memory full"]
    told = [reason for at, reason in enumerate(reasons) if outage.is_news(reason, at)]
    assert told == ["closed", "refused", "memory full"]


def test_after_a_calm_it_is_news_again() -> None:
    outage = Outage()
    assert outage.is_news("refused", 100.0)
    assert not outage.is_news("refused", 100.0 + CALM - 0.001)
    assert outage.is_news("refused", 100.0 + 2 * CALM)


def test_reasons_that_never_read_the_same_do_not_fill_the_log() -> None:
    outage = Outage()
    assert sum(outage.is_news(f"at {i}-0", i / 100) for i in range(10_000)) == MOST_TOLD
