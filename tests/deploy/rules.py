"""The rules for Prometheus, as they are kept."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.promql import Known, UnknownError, known_of

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus" / "rules.yml"
CASES = ROOT / "deploy" / "prometheus" / "rules_test.yml"
PAGE = ROOT / "docs" / "operations.md"

Rule = dict[str, Any]
ALL: list[Rule] = [
    rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
]
RECORDS: list[Rule] = [rule for rule in ALL if "record" in rule]
ALERTS: list[Rule] = [rule for rule in ALL if "alert" in rule]


def known_with_rules(scrape: str) -> Known:
    """Return what a worker's scrape exports, and what the sound ones of the rules make of it."""
    known = known_of(scrape)
    for rule in ALL:
        with suppress(UnknownError):  # the rule's own test says so
            labels = known.labels_of(rule["expr"])
            if "record" in rule:
                known.add(rule["record"], labels)
                continue
            known.add("ALERTS", labels)
            for state in ("pending", "firing"):
                told = {"alertname": rule["alert"], "alertstate": state, **rule["labels"]}
                known.add("ALERTS", told)
    return known
