"""Where settings come from, and what they mean wherever they come from."""

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Run
from tidecast.worker.errors import SettingsError
from tidecast.worker.pipeline.naming import PLAIN, Naming
from tidecast.worker.settings import FeedSettings, OneStreamSettings, ServerSettings, Settings

INPUTS = [
    ("a,b", ("a", "b")),
    ("a, b", ("a", "b")),
    ("a:{8..10}", ("a:{8}", "a:{9}", "a:{10}")),
    ("a:{0..1},b", ("a:{0}", "a:{1}", "b")),
]


def test_settings_come_from_options_then_environment_then_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "tidecast.toml"
    file.write_text('fleet = "file"\nread_size = 5\nthreads = 2\n')
    monkeypatch.setenv("TIDECAST_FLEET", "environment")
    monkeypatch.setenv("TIDECAST_READ_SIZE", "7")
    settings = Settings.load(file, fleet="option")
    assert (settings.fleet, settings.read_size, settings.threads) == ("option", 7, 2)


@pytest.mark.parametrize(("text", "streams"), INPUTS)
def test_inputs_mean_the_same_wherever_they_are_given(
    text: str, streams: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Settings.load(input=[text]).input == streams
    assert Settings.load(input=["first", text]).input == ("first", *streams)
    file = tmp_path / "tidecast.toml"
    for written in (f'"{text}"', f'["{text}"]'):
        file.write_text(f"input = {written}\n")
        assert Settings.load(file).input == streams
    monkeypatch.setenv("TIDECAST_INPUT", text)
    assert Settings.load().input == streams


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (["a", "a"], "a stream is named twice"),
        (["a:{0..1}", "a:{1}"], "a stream is named twice"),
        (["a,"], "at least 1 character"),
        (["a:{3..2}"], "must go from a smaller to a larger number"),
        (["a:{0..4096}"], "4096 at most"),
        ([], "at least 1 item"),
        ([1], "valid string"),
    ],
)
def test_inputs_that_cannot_be_meant(given: list[object], reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        Settings.load(input=given)


@pytest.mark.parametrize("kind", [OneStreamSettings, FeedSettings])
def test_a_command_for_one_stream_takes_one(
    kind: type[OneStreamSettings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert kind.load().input == "readings"
    assert kind.load(input="a:{2..2}").input == "a:{2}"
    file = tmp_path / "tidecast.toml"
    file.write_text('input = ["b"]\n')
    assert kind.load(file).input == "b"
    for several in ("a,b", "a:{0..1}"):
        with pytest.raises(SettingsError, match="stands for 2 streams; name one of them"):
            kind.load(input=several)
    monkeypatch.setenv("TIDECAST_INPUT", "a:{0..3}")
    with pytest.raises(SettingsError, match="stands for 4 streams"):
        kind.load(file)
    assert kind.load(file, input="c").input == "c"


@pytest.mark.parametrize("command", [("feed", "--synthetic"), ("dead-letters", "list")])
def test_several_streams_for_one_are_one_line(tidecast: Run, command: tuple[str, ...]) -> None:
    result = tidecast(*command, "--input", "a,b", "--redis-url", "redis://h")
    assert result.returncode == 2
    assert result.stderr.startswith("tidecast-worker: setting input 'a,b': it stands for 2")
    assert len(result.stderr.splitlines()) == 1


def test_a_command_takes_its_part_of_a_workers_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "tidecast.toml"
    file.write_text('lease = 3\ntime_field = "when"\nconnect_patience = 4\n')
    assert ServerSettings.load(file).connect_patience == 4
    assert FeedSettings.load(file).time_field == "when"
    monkeypatch.setenv("TIDECAST_LEASE", "0")  # which is the worker's to complain about
    assert ServerSettings.load(file).connect_patience == 4
    file.write_text("leese = 3\n")
    with pytest.raises(SettingsError, match="setting leese: Extra inputs are not permitted"):
        ServerSettings.load(file)


def test_settings_never_change() -> None:
    settings = Settings.load()
    with pytest.raises(ValueError, match="frozen"):
        settings.fleet = "other"


def test_series_and_time_have_fields_of_their_own() -> None:
    with pytest.raises(SettingsError, match="settings: series_field and time_field are both 'ts'"):
        FeedSettings.load(series_field="ts", redis_url="redis://:s3cret@h")


def test_no_message_shows_a_password(tmp_path: Path) -> None:
    file = tmp_path / "tidecast.toml"
    for text in ('redis-url = "redis://:s3cret@host"\n', 'redis_url = ["redis://:s3cret@host"]\n'):
        file.write_text(text)
        with pytest.raises(SettingsError, match=r"setting redis.url") as caught:
            Settings.load(file)
        assert "s3cret" not in str(caught.value)


def test_names_of_fields_become_a_naming() -> None:
    assert Settings.load().naming == PLAIN
    settings = Settings.load(
        series_field="site,sensor",
        time_field="at,ts",
        time_unit="s",
        payload_field=["a,b", "c"],
        path="payload.after",
        value=["temp=fields.t", "hum=h=h"],
        feature_field="metric",
        value_field="v",
    )
    assert settings.naming == Naming(
        series=("site", "sensor"),
        time=("at", "ts"),
        unit="s",
        payload=("a", "b", "c"),
        path="payload.after",
        values=(("temp", "fields.t"), ("hum", "h=h")),
        feature="metric",
        value="v",
    )
    assert FeedSettings.load(series_field="a,b").naming == Naming(series=("a", "b"))


def test_several_values_stand_in_a_file_or_a_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "tidecast.toml"
    file.write_text('value = ["temp=t,u", "hum=h"]\npayload_field = ["raw"]\n')
    naming = Settings.load(file).naming
    assert naming.values == (("temp", "t,u"), ("hum", "h"))
    assert naming.payload == ("raw",)
    monkeypatch.setenv("TIDECAST_VALUE", "temp=a,hum=b")
    assert Settings.load(file).naming.values == (("temp", "a"), ("hum", "b"))


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"series_field": "a,"}, "series_field 'a,' has an empty name between its commas"),
        ({"series_field": "a,ts"}, "series_field and time_field are both 'ts'"),
        ({"value": ["temp"]}, "'temp' is not FEATURE=FIELD, such as temp=fields.temperature"),
        ({"value": ["=x"]}, "'=x' is not FEATURE=FIELD"),
        ({"value": ["a=x", "a=y"]}, "a feature is named twice: a, a"),
        ({"payload_field": ["a,,b"]}, "at least 1 character"),
        ({"path": ""}, "at least 1 character"),
    ],
)
def test_names_that_cannot_be_meant(given: dict[str, Any], reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        Settings.load(**given)


def test_feed_names_a_series_in_one_field(tidecast: Run, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("ts,value\n1,2\n")
    words = ("--series-field", "site,sensor", "--redis-url", "redis://h")
    for source in ((tmp_path / "x.csv",), ("--synthetic",)):
        result = tidecast("feed", *source, *words)
        assert result.returncode == 2
        assert "feed names each series in one field; name one, such as site" in result.stderr
