"""The dashboard for Grafana, as it is kept."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.deploy.rules import ROOT

FILE = ROOT / "deploy" / "grafana" / "tidecast.json"
BOARD: dict[str, Any] = json.loads(FILE.read_text())
PANELS: list[dict[str, Any]] = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
VARIABLES: list[dict[str, Any]] = BOARD["templating"]["list"]
FILLED = {"$__rate_interval": "1m", "$__range": "1h"}
"""What Grafana puts in place of its own variables, about; ours stand for everything."""


@dataclass(frozen=True)
class Query:
    """A query, where it stands, and the text that names its results."""

    where: str
    expression: str
    legend: str = ""

    @property
    def plain(self) -> str:
        """The query as Grafana would send it with everything chosen."""
        text = self.expression
        for name, value in FILLED.items():
            text = text.replace(name, value)
        return re.sub(r"\$[a-z]+", ".*", text)

    @property
    def named(self) -> set[str]:
        """The labels that the legend shows."""
        return set(re.findall(r"{{\s*(\w+)\s*}}", self.legend))


def _queries() -> Iterator[Query]:
    """Yield every query of every panel, variable and annotation."""
    for panel in PANELS:
        for target in panel["targets"]:
            yield Query(panel["title"], target["expr"], target.get("legendFormat", ""))
    for variable in VARIABLES:
        if variable["type"] == "query":
            found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
            assert found, variable["query"]
            yield Query(f"variable {variable['name']}", found[1], f"{{{{{found[2]}}}}}")
    for note in BOARD["annotations"]["list"]:
        if "expr" in note:
            legend = note["titleFormat"] + note["textFormat"]
            yield Query(f"annotation {note['name']}", note["expr"], legend)


QUERIES = tuple(_queries())
