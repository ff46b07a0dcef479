"""The dashboard for Grafana: sound, readable, and about what workers really export."""

import re
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import pytest

from tests.deploy.dashboard import BOARD, PANELS, QUERIES, VARIABLES, Query
from tests.deploy.line import running_line
from tests.deploy.promql import Known
from tests.deploy.rules import PAGE, known_with_rules

TYPES = {"timeseries", "stat", "table", "heatmap", "bargauge"}
SCHEMA = 42
"""What Grafana 12 and 13 write; older dashboards they change as they read them."""
WIDTH = 24
OKABE_ITO = {"#0072B2", "#E69F00", "#D55E00", "#56B4E9", "#009E73", "#CC79A7", "#F0E442", "#999999"}
"""Colours that are told apart by those too who do not see all."""
SCALES = {"continuous-BlYlRd", "fixed", "thresholds"}
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS = {"Time", "Value", "__name__"}

each_panel = pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Known:
    with running_line(tmp_path_factory.mktemp("line")) as line:
        return known_with_rules(line.scrape())


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.where)
def test_a_query_asks_for_what_workers_export(known: Known, query: Query) -> None:
    assert query.named <= known.labels_of(query.plain)


def test_every_metric_of_ours_is_shown(known: Known) -> None:
    shown = "\n".join(query.expression for query in QUERIES)
    ours = {name for name in known.labels if name.startswith("tidecast_")}
    families = {
        name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count") for name in ours
    }
    assert {name for name in families if name not in shown} == set()


@each_panel
def test_a_table_arranges_columns_that_it_has(known: Known, panel: dict[str, Any]) -> None:
    there = set(COLUMNS)
    for target in panel["targets"]:
        there |= known.labels_of(Query("", target["expr"]).plain) | {f"Value #{target['refId']}"}
    for step in panel.get("transformations", []):
        options = step["options"]
        assert set(options.get("indexByName", {})) <= there
        assert set(options.get("renameByName", {})) <= there
    assert ("transformations" in panel) == (panel["type"] == "table")


@each_panel
def test_a_panel_is_of_a_type_that_stays(panel: dict[str, Any]) -> None:
    assert panel["type"] in TYPES


@each_panel
def test_a_panel_says_what_it_shows(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")
    if panel["type"] == "heatmap":
        assert panel["options"]["yAxis"]["unit"]
    elif panel["type"] != "table":
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert all(target["legendFormat"] for target in panel["targets"])
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


def test_panels_are_numbered_and_named_once_each() -> None:
    everything = BOARD["panels"]
    assert max(Counter(panel["id"] for panel in everything).values()) == 1
    assert max(Counter(panel["title"] for panel in everything).values()) == 1


def test_panels_lie_beside_each_other() -> None:
    places = [panel["gridPos"] for panel in BOARD["panels"]]
    assert all(place["x"] >= 0 and place["x"] + place["w"] <= WIDTH for place in places)
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below, (one, other)
    lines: dict[int, list[dict[str, int]]] = {}
    for place in places:
        lines.setdefault(place["y"], []).append(place)
    assert all(sum(place["w"] for place in line) == WIDTH for line in lines.values())


@pytest.mark.parametrize("name", ["datasource", "targets"])
@each_panel
def test_a_panel_reads_the_chosen_source(panel: dict[str, Any], name: str) -> None:
    asked = [panel] if name == "datasource" else panel["targets"]
    assert all(one["datasource"] == SOURCE for one in asked)


def test_the_dashboard_can_be_imported() -> None:
    assert BOARD["uid"] == "tidecast"
    assert BOARD["id"] is None
    assert BOARD["schemaVersion"] == SCHEMA
    names = [variable["name"] for variable in VARIABLES]
    assert names == ["datasource", "job", "fleet", "instance"]
    assert VARIABLES[0]["query"] == "prometheus"
    assert all(variable["datasource"] == SOURCE for variable in VARIABLES[1:])


def test_everything_else_of_a_job_is_left_out() -> None:
    """All jobs are those that have workers; a pattern for all would take in every process."""
    assert "allValue" not in next(one for one in VARIABLES if one["name"] == "job")
    asking = [query for query in QUERIES if not query.where.startswith("variable")]
    assert all("$job" in query.expression for query in asking if "ALERTS" not in query.expression)


def test_the_page_names_panels_that_are_there() -> None:
    named = set(re.findall(r"(?<!\*)\*([A-Z][^*]+)\*(?!\*)", PAGE.read_text()))
    assert "Lag by stream" in named
    assert named <= {panel["title"] for panel in PANELS}


@each_panel
def test_colours_can_be_told_apart(panel: dict[str, Any]) -> None:
    for name, value in leaves(panel):
        if name in {"color", "fixedColor", "fill"}:
            assert value in OKABE_ITO
        if name == "mode" and str(value).startswith(("palette", "continuous")):
            assert value in SCALES
    if panel["type"] != "heatmap":
        assert panel["fieldConfig"]["defaults"]["color"]["mode"] in SCALES
    else:
        assert panel["options"]["color"]["scheme"] == "Cividis"


def leaves(tree: Any) -> Iterator[tuple[str, Any]]:
    """Yield each key of a JSON tree that holds a plain value, and the value."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            if isinstance(value, dict | list):
                yield from leaves(value)
            else:
                yield key, value
    elif isinstance(tree, list):
        for value in tree:
            yield from leaves(value)
