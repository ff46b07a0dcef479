"""Dead letters on a real server and through the real command line: seen, retried, dropped."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ormsgpack
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.conftest import Run
from tests.model_files import write_mean_model
from tidecast.worker.errors import LostServerError, ServerError
from tidecast.worker.pipeline.decode import Decoder
from tidecast.worker.pipeline.wire import LONGEST_REASON, Entry, Reject
from tidecast.worker.store.dead_letters import MOST_FIELDS, PAGE, DeadLetters, StuckLetterError

FEATURES = ("value", "hum")
ID = "1700000000123-4"
GONE = pytest.mark.parametrize("gone", [False, True], ids=["source there", "source gone"])


@pytest.fixture
def command(tidecast: Run, server_url: str) -> Run:
    """Run a command of ``tidecast-worker dead-letters`` on the tests' server."""
    return lambda name, *options: tidecast(
        "dead-letters", name, "--redis-url", server_url, *options
    )


def add_entry(client: redis.Redis, *fields: str | bytes) -> Entry:
    client.execute_command("XADD", "readings", ID, *fields)  # type: ignore[no-untyped-call]
    return newest(client, "readings")


def newest(client: redis.Redis, stream: str) -> Entry:
    found: Any = client.xrevrange(stream, count=1)
    ((entry_id, fields),) = found
    return entry_id, [part for pair in fields.items() for part in pair]


def add_letter(
    client: redis.Redis, payload: str | bytes, reason: str = "why", entry: str | bytes = ID
) -> str:
    """Write a letter as the commit does."""
    fields: Any = {"reason": reason, "entry": entry, "payload": payload}
    written: Any = client.xadd("readings:dead", fields)
    return str(written.decode())


def letters_of(client: redis.Redis, entry: Entry) -> list[str]:
    """Write the letters of an entry whose every reading is rejected, as a worker would."""
    readings, rejects = Decoder("readings", FEATURES).decode([entry])
    for place in range(len(readings)):
        rejects.append(Reject("why", entry[0], readings.payload(place)))
    return [add_letter(client, r.payload, r.reason, r.entry) for r in rejects]


def meanings(entry: Entry) -> list[tuple[object, ...]]:
    """All that a worker makes of an entry: what each reading says, or why there is none."""
    readings, rejects = Decoder("readings", FEATURES).decode([entry])
    said: list[tuple[object, ...]] = [
        (readings.series[i], int(readings.times[i]), *(readings.fault(i, f) for f in FEATURES))
        for i in range(len(readings))
    ]
    return said + [(reject.reason,) for reject in rejects]


def assert_one_line(result: "subprocess.CompletedProcess[str]", *parts: str) -> None:
    assert result.returncode == 2, result.stderr
    assert result.stderr.count("\n") == 1, result.stderr
    assert result.stdout == ""
    for part in ("tidecast-worker: ", *parts):
        assert part in result.stderr


def test_a_retried_reading_is_forecast_once_its_cause_is_mended(
    client: redis.Redis, tidecast: Run, command: Run, tmp_path: Path
) -> None:
    run = ("run", "--models", tmp_path / "m.onnx", "--from", "earliest", "--burst")
    write_mean_model(tmp_path / "m.onnx", n_steps=1, features=FEATURES)
    add_entry(client, "series", "a", "value", "71.3")
    assert tidecast(*run).returncode == 0
    letter = newest(client, "readings:dead")[0].decode()
    write_mean_model(tmp_path / "m.onnx", n_steps=1)

    retried = command("retry", letter)
    assert (retried.returncode, retried.stdout) == (0, ""), retried.stderr
    assert retried.stderr == "1 put back on readings\n"
    assert_one_line(command("retry", letter), f"no dead letter {letter} on readings:dead")
    assert client.xlen("readings") == 2
    assert client.xlen("readings:dead") == 0

    assert tidecast(*run).returncode == 0
    forecast = json.loads(newest(client, "readings:forecasts")[1][3])
    assert (forecast["series"], forecast["at"]) == ("a", 1700000000123)
    assert forecast["forecast"]["value"][0] == pytest.approx(71.3)
    assert client.xlen("readings:forecasts") == 1
    assert client.xlen("readings:dead") == 0


@GONE
@pytest.mark.parametrize(
    "fields",
    [
        ("series", "a", "value", "abc"),
        ("series", "a", "ts", "5", "value", "7", "note", 'a "b" é'),
        ("value", "1e39", "hum", "nan"),
        ("value", "1", "hum", "2", "ts", "noon"),
        ("data", "not json"),
        ("data", "{"),
        ("body", '[{"series":"a","value":1},7]'),
        ("data", '{"series":"a","value":1}'),
        ("value", '{"series":"a","value":null,"data":{"value":3}}'),
        ("msg", '{"value":7,"ts":"2024-01-01T00:00:00","series":12,"other":{"a":[1,2]}}'),
        ("data", '[{"series":"a","value":[1,2]},{"series":"b","value":71.30000000000001}]'),
        ("data", '{"series":["a","b"],"ts":[1,2],"value":[1.5,"x"]}'),
        ("data", '{"value":[1,[2,3],null]}'),
        ("data", '{"name":"w","tags":{"a":"b"},"fields":{"value":7},"timestamp":1709251200}'),
        ("data", '{"metrics":[{"name":"w","fields":{"value":1}},{"name":"v","fields":{}}]}'),
        ("data", '{"specversion":"1.0","source":"/s","time":"1970-01-02","data":[{"value":1},{}]}'),
        ("data", '{"device":{"id":7},"values":{"value":null}}'),
        ("payload", "w,a=b value=1 1709251200000000000\nw hum=2"),
        ("data", '{"value":1,"series":"s"}\n{"hum":2,"ts":5}'),
        ('{"id":7}', '{"before":null,"after":{"value":1},"source":{"ts_ms":5},"op":"c"}'),
    ],
)
def test_a_retried_reading_says_what_it_said(
    client: redis.Redis, fields: tuple[str, ...], *, gone: bool
) -> None:
    retry_and_compare(client, fields, gone=gone)


@pytest.mark.parametrize(
    "fields",
    [
        ("series", b"\xff", "value", "1"),
        ("series", "a", "value", b"\xff"),
        ("data", '{"series":"a","value":"71.3"}'),
        ("series", "boiler", "ts", "2024-01-01", "data", '[{"value":1},{"value":null}]'),
        ("ts", "5", "data", '{"value":"1","hum":"2"}'),
        ("ts", "5", "series", "s", "data", '{"name":"w","fields":{"value":7}}'),
        ("ts", "5", "data", '[{"device":"d","values":{"value":7}},{"value":1}]'),
        ("ts", "5", "data", ormsgpack.packb([{"value": 7, "series": b"s"}, {"value": 8.5}])),
    ],
)
def test_the_source_entry_tells_what_a_letter_does_not(
    client: redis.Redis, fields: tuple[str | bytes, ...]
) -> None:
    retry_and_compare(client, fields, gone=False)


def retry_and_compare(client: redis.Redis, fields: tuple[str | bytes, ...], *, gone: bool) -> None:
    entry = add_entry(client, *fields)
    ids = letters_of(client, entry)
    if gone:
        client.xdel("readings", ID)
    box = DeadLetters(client, "readings")
    for letter, meaning in zip(ids, meanings(entry), strict=True):
        before = client.xlen("readings")
        assert box.retry(box.find(letter))
        assert client.xlen("readings") == before + 1
        assert meanings(newest(client, "readings")) == [meaning]
    assert client.xlen("readings:dead") == 0


def test_json_goes_back_under_one_field(client: redis.Redis) -> None:
    payload = '{"series":"a","ts":5,"value":null}'
    add_entry(client, "body", f"[{payload},{payload}]")
    letter = add_letter(client, payload)
    box = DeadLetters(client, "readings")
    assert box.retry(box.find(letter))
    assert newest(client, "readings")[1] == [b"data", payload.encode()]


def test_bytes_that_are_no_text_are_not_guessed_at(client: redis.Redis) -> None:
    (letter,) = letters_of(client, add_entry(client, "series", b"\xff", "value", "1"))
    client.xdel("readings", ID)
    box = DeadLetters(client, "readings")
    with pytest.raises(StuckLetterError, match=f"no text, and entry {ID} of readings is gone"):
        box.retry(box.find(letter))
    assert client.xlen("readings:dead") == 1


@pytest.mark.parametrize(
    "fields",
    [
        ("series", "a", "value", "x", "note", "é" * 2000),
        ("data", json.dumps({"series": "a", "note": "n" * 2000, "value": "x"})),
        ("data", json.dumps([{"series": "a", "note": "n" * 2000, "value": "x"}])),
    ],
)
def test_a_cut_payload_is_read_from_its_source(client: redis.Redis, fields: tuple[str]) -> None:
    retry_and_compare(client, fields, gone=False)


def test_a_cut_payload_without_its_source_stays(client: redis.Redis, command: Run) -> None:
    many = json.dumps([{"note": "n" * 2000, "value": "x"}, {"value": 1}])
    letter, small = letters_of(client, add_entry(client, "data", many))
    reason = f"dead letter {letter} stays: its payload is cut, and entry {ID} of readings is "
    assert_one_line(command("retry", letter), reason + "there, but not with this reading alone")
    client.xdel("readings", ID)
    assert_one_line(command("retry", letter), reason + "gone; send the reading anew")

    result = command("retry", "--all")
    assert result.returncode == 0
    assert "1 put back on readings\n" in result.stderr
    assert reason in result.stderr
    remaining: Any = client.xrange("readings:dead")
    assert [entry_id.decode() for entry_id, _ in remaining] == [letter]
    assert small != letter


@pytest.mark.parametrize(
    "payload",
    ["", "7", "[]", '"nested too deeply to repeat"', "{}...", '{"a":%s}' % ("[" * 400 + "]" * 400)],
    ids=range(6),
)
@pytest.mark.parametrize("entry", [ID, "", "noon", "1-0 ", f"{2**64}-0"])
def test_a_letter_that_nobody_here_wrote_stays(
    client: redis.Redis, payload: str, entry: str
) -> None:
    add_entry(client, "data", "{}")
    letter = add_letter(client, payload, entry=entry)
    box = DeadLetters(client, "readings")
    with pytest.raises(StuckLetterError, match=f"{letter} stays"):
        box.retry(box.find(letter))
    assert (client.xlen("readings"), client.xlen("readings:dead")) == (1, 1)


@pytest.mark.parametrize(("width", "fits"), [(MOST_FIELDS, True), (MOST_FIELDS + 1, False)])
def test_an_entry_too_wide_for_a_script_stays(
    client: redis.Redis, width: int, *, fits: bool
) -> None:
    fields = [text for i in range(width - 1) for text in (f"f{i}", "x")]
    (letter,) = letters_of(client, add_entry(client, "ts", "5", *fields))
    box = DeadLetters(client, "readings")
    if fits:
        assert box.retry(box.find(letter))
        return
    with pytest.raises(StuckLetterError, match=f"{width} fields, over {MOST_FIELDS}"):
        box.retry(box.find(letter))


def test_fields_are_named_as_the_workers_name_them(
    client: redis.Redis, command: Run, tmp_path: Path
) -> None:
    config = tmp_path / "tidecast.toml"
    config.write_text('time_field = "when"\nseries_field = "data"\n')
    first = add_letter(client, '{"data":"a","value":null}')
    second = add_letter(client, '{"data":"a","value":"x","ts":"5"}')
    assert command("retry", first, second, "--config", config).returncode == 0
    entries: Any = client.xrange("readings")
    assert json.loads(entries[0][1][b"body"]) == {"data": "a", "value": None}
    assert entries[0][1][b"when"] == b"1700000000123"
    assert entries[1][1][b"when"] == b"1700000000123"


def test_all_ends_at_the_letter_that_was_newest_at_the_start(client: redis.Redis) -> None:
    """Each retried reading dies again at once."""
    for number in range(PAGE + 5):
        add_letter(client, f'{{"value":"{number}"}}')
    box = DeadLetters(client, "readings")
    for letter in box.oldest_first():
        assert box.retry(letter)
        add_letter(client, letter.payload)
    values: Any = client.xrange("readings")
    assert [int(fields[b"value"]) for _, fields in values] == list(range(PAGE + 5))
    assert box.count() == PAGE + 5


def test_letters_are_listed_a_page_at_a_time_each_once(client: redis.Redis) -> None:
    letters = [add_letter(client, f'{{"value":"{number}"}}') for number in range(2 * PAGE + 5)]
    box = DeadLetters(client, "readings")
    assert [letter.id for letter in box.oldest_first()] == letters
    assert [letter.id for letter in box.newest_first()] == letters[::-1]


def test_all_is_narrowed_by_the_reason(client: redis.Redis, command: Run) -> None:
    for number in range(7):
        add_letter(client, f'{{"value":"{number}"}}', "late: 5 ms" if number % 2 else "missing")
    retried, dropped = (command(c, "--all", "--reason", "late") for c in ("retry", "drop"))
    assert retried.stderr.endswith("3 put back on readings\n")
    assert dropped.stderr.endswith("0 dropped from readings:dead\n")
    assert [result.returncode for result in (retried, dropped)] == [0, 0]
    assert (client.xlen("readings"), client.xlen("readings:dead")) == (3, 4)
    assert command("drop", "--all").stderr.endswith("4 dropped from readings:dead\n")
    assert client.xlen("readings:dead") == 0
    assert command("retry", "--all").returncode == 0


def test_two_who_retry_one_letter_put_back_one_reading(client: redis.Redis) -> None:
    letter = add_letter(client, '{"value":"1"}')
    boxes = [DeadLetters(client, "readings") for _ in range(2)]
    found = [box.find(letter) for box in boxes]
    assert [box.retry(one) for box, one in zip(boxes, found, strict=True)] == [True, False]
    assert not boxes[0].drop(found[0])
    assert client.xlen("readings") == 1


def test_named_letters_are_all_found_before_one_is_touched(
    client: redis.Redis, command: Run
) -> None:
    letter = add_letter(client, '{"value":"1"}')
    for name in ("retry", "drop"):
        assert_one_line(command(name, letter, "5-0"), "no dead letter 5-0")
    assert (client.xlen("readings"), client.xlen("readings:dead")) == (0, 1)
    assert command("drop", letter, letter).stderr == "1 dropped from readings:dead\n"


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("retry",), "name dead letters by their ids, or all of them by --all"),
        (("drop",), "name dead letters by their ids, or all of them by --all"),
        (("drop", "--all", "1-0"), "name dead letters by their ids, or all of them by --all"),
        (("retry", "1-0", "--reason", "late"), "name dead letters by their ids"),
        (("retry", "noon"), "'noon' is no id of a dead letter"),
        (("drop", "1"), "'1' is no id"),
        (("show", "18446744073709551616-0"), "is no id"),
        (("show", "1-0"), "no dead letter 1-0 on readings:dead"),
        (("show",), "ID"),
        (("list", "--limit", "0"), "--limit"),
    ],
)
def test_wrong_usage_is_one_line(command: Run, words: tuple[str, ...], part: str) -> None:
    assert_one_line(command(*words), part)


@pytest.mark.parametrize("words", [("list",), ("show", "1-0"), ("retry", "--all"), ("drop", "1-0")])
def test_a_key_in_the_way_is_one_line(
    client: redis.Redis, command: Run, words: tuple[str, ...]
) -> None:
    client.set("readings:dead", "in the way")
    assert_one_line(command(*words), "readings:dead is a string, not a stream")


def test_no_dead_letters(client: redis.Redis, command: Run) -> None:
    result = command("list")
    assert (result.returncode, result.stdout) == (0, "")
    assert result.stderr == "0 dead letters on readings:dead\n"
    assert json.loads(command("list", "--json").stdout)["letters"] == []
    assert not client.exists("readings", "readings:dead")


def test_the_list_counts_and_shows(client: redis.Redis, command: Run) -> None:
    for number in range(25):
        add_letter(client, '{"value":"1"}', f"late: {number} ms before the newest")
    add_letter(client, '{"value":"' + "n" * 500 + '"}', "feature 'value' is 'nnn', not a number")

    result = command("list")
    lines = result.stdout.splitlines()
    assert len(lines) == 20
    assert "feature 'value' is 'nnn', not a number" in lines[0]
    assert lines[0].endswith("nnn...")
    assert "late: 24 ms" in lines[1]
    assert f"  {ID}  " in lines[1]
    assert result.stderr.splitlines()[0] == "26 dead letters on readings:dead"
    assert "     25  late: ... ms before the newest\n" in result.stderr
    assert "      1  feature 'value' is ..., not a number\n" in result.stderr

    listed = json.loads(
        command("list", "--oldest", "--reason", "1 ms", "--limit", "2", "--json").stdout
    )
    assert [one["reason"][:11] for one in listed["letters"]] == ["late: 1 ms ", "late: 11 ms"]
    assert listed["total"] == 26
    assert listed["counted"] == sum(listed["reasons"].values()) == 26
    letter = listed["letters"][0]
    assert letter["at"] == int(letter["id"].partition("-")[0])


def test_one_letter_is_shown_whole(client: redis.Redis, command: Run) -> None:
    payload = json.dumps({"value": "n" * 900})
    letter = add_letter(client, payload, "why")
    shown = command("show", letter)
    assert payload in shown.stdout
    assert f"{ID} (no longer on readings)" in shown.stdout
    add_entry(client, "value", "1")
    facts = json.loads(command("show", letter, "--json").stdout)
    assert facts == {
        "id": letter,
        "at": int(letter.partition("-")[0]),
        "entry": ID,
        "reason": "why",
        "payload": payload,
        "source_is_there": True,
        "fleet": None,
    }


HOSTILE = "[red]\x1b[2J\x1b]0;title\x07\x9b31m\r\x08\x7f\u202e:boom:[/] \ufffd"


@pytest.mark.parametrize("words", [("list",), ("list", "--json"), ("show", ""), ("show", "--json")])
def test_no_letter_draws_on_the_terminal(
    client: redis.Redis, server_url: str, words: tuple[str, ...]
) -> None:
    fields: Any = {"reason": HOSTILE, "entry": HOSTILE, "payload": HOSTILE}
    letter: Any = client.xadd("readings:dead", fields)
    client.xadd("readings:dead", {"nothing": "of ours"}, id=f"{2**64 - 1}-0")
    words = tuple(word for word in words if word)
    words += (letter.decode(),) if words[0] == "show" else ()
    drawn = on_a_terminal("dead-letters", *words, "--redis-url", server_url)
    assert "[red]" in drawn
    assert ":boom:" in drawn
    assert all(c.isprintable() for c in drawn.replace("\r\n", "")), drawn


def on_a_terminal(*words: str) -> str:
    """Return what a command writes to a terminal that knows no colours."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "dumb", "COLUMNS": "300"}
    with subprocess.Popen(
        [sys.executable, "-m", "tidecast.worker", *words],
        stdout=theirs,
        stderr=theirs,
        env=environment,
    ) as process:
        os.close(theirs)
        drawn = b"".join(read_all(ours))
    os.close(ours)
    assert process.returncode == 0, drawn
    return drawn.decode()


def read_all(terminal: int) -> Iterator[bytes]:
    try:
        while chunk := os.read(terminal, 65536):
            yield chunk
    except OSError:  # how a terminal says that its other end is closed
        return


def test_a_reader_who_has_seen_enough_ends_it_well(client: redis.Redis, server_url: str) -> None:
    for _ in range(2000):
        add_letter(client, "n" * 1000)
    words = ("dead-letters", "list", "--limit", "2000", "--redis-url", server_url)
    with subprocess.Popen(
        [sys.executable, "-m", "tidecast.worker", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
    assert process.returncode == 0
    assert b"rror" not in said


@pytest.mark.parametrize("rules", [["-xdel"], ["-xadd"]])
def test_missing_rights_stop_the_whole_retry(client: redis.Redis, rules: list[str]) -> None:
    letter = add_letter(client, '{"value":"1"}')
    words = ["reset", "on", "nopass", "~*", "+@all", *rules]
    client.execute_command("ACL", "SETUSER", "clerk", *words)  # type: ignore[no-untyped-call]
    path = client.connection_pool.connection_kwargs["path"]
    login: dict[str, Any] = {"username": "clerk", "password": "x"}
    with redis.Redis(unix_socket_path=path, protocol=2, **login) as clerk:
        box = DeadLetters(clerk, "readings")
        with pytest.raises(ServerError, match="may not X"):
            box.retry(box.find(letter))
    assert (client.xlen("readings"), client.xlen("readings:dead")) == (0, 1)


def test_a_key_of_another_type_stops_the_whole_retry(client: redis.Redis) -> None:
    letter = add_letter(client, '{"value":"1"}')
    box = DeadLetters(client, "readings")
    found = box.find(letter)
    client.set("readings", "in the way")
    with pytest.raises(ServerError):
        box.retry(found)
    with pytest.raises(ServerError, match="readings is a string, not a stream"):
        DeadLetters(client, "readings")
    assert client.xlen("readings:dead") == 1


def test_errors_of_the_driver_are_translated(client: redis.Redis, tmp_path: Path) -> None:
    letter = add_letter(client, '{"value":"1"}')
    door = tmp_path / "s"
    door.symlink_to(client.connection_pool.connection_kwargs["path"])
    stranger = redis.Redis(unix_socket_path=str(door), protocol=2, retry=Retry(NoBackoff(), 0))
    box = DeadLetters(stranger, "readings")
    found = box.find(letter)
    door.unlink()
    stranger.connection_pool.disconnect()
    calls: list[Callable[[], object]] = [
        lambda: DeadLetters(stranger, "readings"),
        box.count,
        lambda: list(box.newest_first()),
        lambda: list(box.oldest_first()),
        lambda: box.find(letter),
        lambda: box.retry(found),
        lambda: box.drop(found),
    ]
    for call in calls:
        with pytest.raises(LostServerError):
            call()
    stranger.close()


def test_reasons_are_bounded_whatever_the_input(
    client: redis.Redis, tidecast: Run, command: Run, tmp_path: Path
) -> None:
    features = tuple(f"{i:0>200}" for i in range(10_000))
    model = write_mean_model(tmp_path / "m.onnx", n_steps=1, features=features, targets=features)
    long, wide = "é" * 500_000, dict.fromkeys(features, "é" * 50)
    entries: list[dict[str, str]] = [
        {long: "1"},
        {features[0]: long},
        {features[0]: "1", "series": long},
        {features[0]: "1", "ts": long},
        wide,
        {"data": long},
        {"data": json.dumps([long])},
        {"data": json.dumps({"series": {long: 1}})},
        {"data": json.dumps(wide)},
        {"data": json.dumps({name: [1] * (i % 2) for i, name in enumerate(features)})},
        {"data": json.dumps({name: [long[:99]] for name in features})},
    ]
    for entry in entries:
        client.xadd("readings", dict(entry.items()))
    result = tidecast("run", "--models", model, "--from", "earliest", "--burst")
    assert result.returncode == 0, result.stderr
    letters: Any = client.xrange("readings:dead")
    assert len(letters) == len(entries)
    lengths = [len(fields[b"reason"]) for _, fields in letters]
    assert max(lengths) <= LONGEST_REASON
    assert lengths.count(LONGEST_REASON) >= 3
    assert all(len(fields[b"payload"]) <= 1024 for _, fields in letters)
    assert len(json.loads(command("list", "--json").stdout)["letters"]) == len(entries)


@pytest.mark.parametrize("text", ["x" * 512, "é" * 256, "x" * 128, ""])
def test_a_reason_is_cut_only_where_it_is_too_long(text: str) -> None:
    assert Reject(text, b"1-0", b"").reason == text
    cut = Reject(text + "é" * 400, b"1-0", b"").reason
    assert len(cut.encode()) in (LONGEST_REASON, LONGEST_REASON - 1)
    assert cut.endswith("...")
    assert (text + "é" * 400).startswith(cut[:-3])


def test_help_has_an_example() -> None:
    for name in ("list", "show", "retry", "drop"):
        words = [sys.executable, "-m", "tidecast.worker", "dead-letters", name, "--help"]
        shown = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        assert f"Example: tidecast-worker dead-letters {name}" in " ".join(shown.split())


def test_history_stays_history(client: redis.Redis, command: Run) -> None:
    """Also where a reading of a document is put back by itself."""
    body = '[{"value":"x"},{"value":2,"hum":1}]'
    letters = letters_of(client, add_entry(client, "data", body, "tidecast:history", "1"))
    assert command("retry", letters[0]).returncode == 0
    _, fields = newest(client, "readings")
    assert dict(zip(fields[::2], fields[1::2], strict=True))[b"tidecast:history"] == b"1"


@pytest.mark.parametrize(
    ("unit", "time"), [("ms", b"1700000000123"), ("s", b"2023-11-14T22:13:20.123Z")]
)
def test_a_reading_keeps_its_entrys_time_whatever_numbers_count(
    client: redis.Redis, command: Run, unit: str, time: bytes
) -> None:
    letters = letters_of(client, add_entry(client, "value", "x", "hum", "1"))
    assert command("retry", letters[0], "--time-unit", unit).returncode == 0
    _, fields = newest(client, "readings")
    assert dict(zip(fields[::2], fields[1::2], strict=True))[b"ts"] == time
