"""The rules for Prometheus: tested, explained, and about what workers really export."""

import json
import os
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.dashboard import QUERIES
from tests.deploy.line import Line, running_line
from tests.deploy.promql import Known, UnknownError
from tests.deploy.rules import ALERTS, ALL, CASES, PAGE, RECORDS, RULES, Rule, known_with_rules
from tests.redis.servers import HOST, dying_with_us, free_port
from tests.redis.waiting import wait_for

SEVERITIES = {"critical", "warning"}
QUIET = {"Alerts", "Hindered streams", "Time to catch up"}
"""Panels that show nothing while all is well."""
HASTY = {"TidecastForecastsLate"}
"""Alerts that a slow machine may rightly raise."""
Ask = Callable[..., Any]

each_rule = pytest.mark.parametrize(
    "rule", ALL, ids=lambda rule: rule.get("alert") or rule["record"]
)
each_alert = pytest.mark.parametrize("alert", ALERTS, ids=lambda rule: rule["alert"])


def tool(name: str) -> str:
    """Return where a program of Prometheus is; a missing one skips, and fails where CI is set."""
    found = shutil.which(name)
    if found is None:
        missing = pytest.fail if os.environ.get("CI") else pytest.skip
        missing(f"no {name} is installed; Debian's package is prometheus")
    return found


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Known:
    with running_line(tmp_path_factory.mktemp("line")) as line:
        return known_with_rules(line.scrape())


@pytest.mark.parametrize("words", [("check", "rules", str(RULES)), ("test", "rules", str(CASES))])
def test_promtool_is_content(words: tuple[str, ...]) -> None:
    ran = subprocess.run(
        [tool("promtool"), *words], capture_output=True, text=True, timeout=600, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_alert_is_seen_to_fire_and_to_keep_quiet() -> None:
    cases = [
        case
        for test in yaml.safe_load(CASES.read_text())["tests"]
        for case in test.get("alert_rule_test", [])
    ]
    names = {rule["alert"] for rule in ALERTS}
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == names
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == names


def test_every_record_is_seen_to_be_right() -> None:
    asked = {
        case["expr"]
        for test in yaml.safe_load(CASES.read_text())["tests"]
        for case in test.get("promql_expr_test", [])
    }
    assert asked == {rule["record"] for rule in RECORDS}


@each_rule
def test_a_rule_asks_for_what_workers_export(known: Known, rule: Rule) -> None:
    labels = known.labels_of(rule["expr"])
    told = " ".join(rule.get("annotations", {}).values())
    assert set(re.findall(r"\$labels\.(\w+)", told)) <= labels


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("tidecast_reading_total", "nobody exports"),
        ("tidecast_commit_readings", "nobody exports"),
        ('tidecast_rejects_total{cause="late"}', "no label cause"),
        ('tidecast_rejects_total{reason="tardy"}', "never 'tardy'"),
        ('tidecast_rejects_total{reason=~"late|tardy"}', "never 'tardy'"),
        ('tidecast_forecast_latency_seconds_bucket{le="3.0"}', "never"),
        ("sum by (stream) (tidecast_partitions)", "no label stream"),
        ("sum without (stream) (tidecast_partitions)", "no label stream"),
        ("tidecast_series / tidecast_partitions", "never match"),
        ("tidecast_series / on (stream) tidecast_partitions", "right of /: no label stream"),
        ("histogram_quantile(0.9, rate(tidecast_readings_total[5m]))", "no label le"),
        ('ALERTS{alertname="TidecastTired"}', "never"),
        ("sum(", "sum"),
    ],
)
def test_a_slip_of_the_pen_is_found(known: Known, expression: str, complaint: str) -> None:
    with pytest.raises(UnknownError, match=complaint):
        known.labels_of(expression)


@each_alert
def test_an_alert_says_what_is_the_matter_and_where_to_read_on(alert: Rule) -> None:
    assert alert["labels"]["severity"] in SEVERITIES
    told = alert["annotations"]
    assert set(told) == {"summary", "description", "runbook_url"}
    assert told["runbook_url"] == f"docs/operations.md#{alert['alert'].lower()}"
    section = f"### {alert['alert']}\n\n*{alert['labels']['severity']}.*"
    assert section in PAGE.read_text()


def test_the_page_explains_no_alert_that_is_not() -> None:
    explained = re.findall(r"^### (Tidecast\w+)$", PAGE.read_text(), re.MULTILINE)
    assert sorted(explained) == sorted(rule["alert"] for rule in ALERTS)


def test_the_page_explains_every_metric(known: Known) -> None:
    page = PAGE.read_text()
    ours = {name for name in known.labels if name.startswith("tidecast_")}
    families = {re.sub("_(bucket|sum|count)$", "", name) for name in ours}
    assert {name for name in families if f"| `{name}` |" not in page} == set()
    assert {rule["record"] for rule in RECORDS if f"`{rule['record']}`" not in page} == set()


@contextmanager
def watched(line: Line, folder: Path) -> Iterator[Ask]:
    """Run a Prometheus that scrapes a line's worker; yield what asks its API."""
    configuration = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [
            {
                "job_name": "tidecast",
                "static_configs": [
                    {"targets": [f"{HOST}:{line.port}"], "labels": {"fleet": "default"}}
                ],
            }
        ],
    }
    folder.mkdir()
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(configuration))
    port = free_port()
    command = [*dying_with_us(), tool("prometheus"), f"--config.file={file}"]
    command += [f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={HOST}:{port}"]

    def ask(path: str, **parameters: str | float) -> Any:
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"http://{HOST}:{port}/api/v1/{path}?{query}") as answer:
            told = json.load(answer)
        assert told["status"] == "success", told
        return told["data"]

    def ready() -> bool:
        try:
            return bool(ask("query", query="up")["result"])
        except OSError:
            return False

    with (folder / "log").open("w") as log, subprocess.Popen(command, stderr=log) as process:
        try:
            wait_for(ready)
            yield ask
        finally:
            process.terminate()


def test_a_real_prometheus_watches_a_real_worker(tmp_path: Path) -> None:
    with running_line(tmp_path) as line, watched(line, tmp_path / "prometheus") as ask:

        def value(query: str) -> float:
            result = ask("query", query=query)["result"]
            return float(result[0]["value"][1]) if result else float("nan")

        def evaluated() -> bool:
            rules = [rule for group in ask("rules")["groups"] for rule in group["rules"]]
            return len(rules) == len(ALL) and all(rule["health"] != "unknown" for rule in rules)

        wait_for(lambda: value("tidecast_forecasts_total") == line.forecasts())
        assert value('up{job="tidecast"}') == 1
        before = line.forecasts()
        line.feed()
        wait_for(lambda: line.forecasts() > before)
        wait_for(lambda: value("tidecast_forecasts_total") == line.forecasts())
        wait_for(lambda: value("fleet:tidecast_forecasts:rate5m") > 0)
        wait_for(evaluated)
        for rule in (rule for group in ask("rules")["groups"] for rule in group["rules"]):
            assert (rule["health"], rule.get("lastError", "")) == ("ok", "")
            assert rule.get("state", "inactive") == "inactive" or rule["name"] in HASTY, rule
        for rule in RECORDS:
            assert ask("query", query=rule["record"])["result"], rule
        for query in QUERIES:
            found = ask("query", query=query.plain)["result"]
            assert found or query.where in QUIET, query
        line.stammer()
        (hindered,) = (query.plain for query in QUERIES if query.where == "Hindered streams")
        wait_for(lambda: value(hindered) == 1)
        line.process.terminate()
        wait_for(lambda: value('ALERTS{alertname="TidecastFleetDown", fleet="default"}') == 1)
