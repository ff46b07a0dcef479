"""What probes are told, and when."""

from tidecast.worker.service.health import LONGEST_SILENCE, Health


def test_a_new_worker_lives_and_has_not_started() -> None:
    health = Health()
    assert health.not_alive(1e9) is None
    assert health.not_started() == health.not_ready() == "not connected to the server yet"


def test_windows_that_are_being_made_hold_the_start_up_back() -> None:
    health = Health(outage=None)
    assert health.not_started() == "the windows of the first partitions are being made again"


def test_a_lost_server_makes_it_unready_and_never_dead() -> None:
    health = Health(beat_at=100.0, started=True)
    health.outage = None
    assert health.not_ready() is None
    health.outage = "connection refused"
    assert health.not_ready() == "connection refused"
    assert health.not_started() is None
    assert health.not_alive(100.0 + LONGEST_SILENCE) is None


def test_a_loop_that_stands_still_is_dead() -> None:
    health = Health(beat_at=100.0, started=True, outage=None)
    assert health.silence(130.0) == 30.0
    assert health.not_alive(100.5 + LONGEST_SILENCE) == "the loop has stood still for 60 s"


def test_a_worker_whose_partitions_are_all_in_trouble_is_unready_and_never_dead() -> None:
    health = Health(beat_at=100.0, started=True, outage=None, stuck="no stream")
    assert health.not_ready() == "no stream"
    assert health.not_started() is None
    assert health.not_alive(100.0) is None
