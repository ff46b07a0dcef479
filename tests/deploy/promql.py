"""What a PromQL expression asks for, held against what there is.

Prometheus takes a metric or a label that nobody exports for one that has no values yet, so an alert
with a slip of the pen never fires. Here it is an error.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families
from promql_parser import (
    AggModifierType,
    AggregateExpr,
    BinaryExpr,
    Call,
    Expr,
    LabelModifierType,
    Matcher,
    MatchOp,
    MatrixSelector,
    NumberLiteral,
    ParenExpr,
    StringLiteral,
    SubqueryExpr,
    UnaryExpr,
    VectorSelector,
    parse,
)

Labels = frozenset[str]
TARGET = frozenset({"namespace", "job", "fleet", "instance"})
"""The labels that whoever scrapes adds; see the head of rules.yml."""
CLOSED = frozenset({"reason", "le", "alertname", "alertstate", "severity"})
"""Labels of which all values are known."""
SETS = frozenset({"and", "or", "unless"})
KEEPING = frozenset({"topk", "bottomk", "limitk"})


class UnknownError(Exception):
    """An expression asks for what there is not, or for what can never match."""


@dataclass
class Known:
    """The metrics that there are, each with its labels, and the values of closed labels."""

    labels: dict[str, Labels] = field(default_factory=dict)
    values: dict[tuple[str, str], set[str]] = field(default_factory=dict)

    def add(self, metric: str, labels: Mapping[str, str] | Labels) -> None:
        """Add a metric, or more labels and values of one."""
        self.labels[metric] = self.labels.get(metric, frozenset()) | frozenset(labels)
        if isinstance(labels, Mapping):
            for label in CLOSED & labels.keys():
                self.values.setdefault((metric, label), set()).add(labels[label])

    def labels_of(self, expression: str) -> Labels:
        """Return the labels that an expression's results carry.

        Raises:
            UnknownError: see there.
        """
        try:
            tree = parse(expression)
        except ValueError as error:
            raise UnknownError(f"{expression}: {error}") from error
        return self._of(tree) or frozenset()

    def _of(self, tree: Expr) -> Labels | None:
        """Return the labels of a vector, None for a number or a text."""
        match tree:
            case VectorSelector():
                return self._selected(tree)
            case MatrixSelector():
                return self._selected(tree.vector_selector)
            case ParenExpr() | SubqueryExpr() | UnaryExpr():
                return self._of(tree.expr)
            case AggregateExpr():
                return self._aggregated(tree)
            case BinaryExpr():
                return self._joined(tree)
            case Call():
                return self._called(tree)
            case NumberLiteral() | StringLiteral():
                return None
        raise NotImplementedError(f"{type(tree).__name__}: say here which labels it gives")

    def _selected(self, tree: VectorSelector) -> Labels:
        if tree.name is None or tree.name not in self.labels:
            raise UnknownError(f"{tree.name}: nobody exports such a metric")
        for matcher in tree.matchers.matchers:
            self._check(tree.name, matcher)
        return self.labels[tree.name]

    def _check(self, metric: str, matcher: Matcher) -> None:
        _demand({matcher.name}, self.labels[metric], metric)
        known = self.values.get((metric, matcher.name))
        if known is None:
            return
        for wanted in _alternatives(matcher):
            if not any(re.fullmatch(wanted, value) for value in known):
                raise UnknownError(
                    f"{metric}: label {matcher.name} is never {wanted!r}, only {sorted(known)}"
                )

    def _aggregated(self, tree: AggregateExpr) -> Labels:
        labels = self._of(tree.expr) or frozenset()
        modifier, whole = tree.modifier, str(tree.op)
        if modifier is None:
            return labels if whole in KEEPING else frozenset()
        named = frozenset(modifier.labels)
        _demand(named, labels, whole)
        if whole in KEEPING:
            return labels
        return named if modifier.type == AggModifierType.By else labels - named

    def _joined(self, tree: BinaryExpr) -> Labels | None:
        left, right = self._of(tree.lhs), self._of(tree.rhs)
        if left is None or right is None:
            return right if left is None else left
        operator, matching = str(tree.op), tree.modifier and tree.modifier.matching
        if matching is None:
            if operator != "or" and left != right:
                raise UnknownError(
                    f"{operator}: {sorted(left)} never match {sorted(right)}; name those to go by"
                )
            return left | right
        named = frozenset(matching.labels)
        _demand(named, left, f"left of {operator}")
        _demand(named, right, f"right of {operator}")
        if operator in SETS:
            return left | right if operator == "or" else left
        return named if matching.type == LabelModifierType.Include else left - named

    def _called(self, tree: Call) -> Labels | None:
        given = [labels for one in tree.args if (labels := self._of(one)) is not None]
        name = tree.func.name
        if name.startswith("absent"):
            return frozenset(_equals(tree.args[0]))
        if name == "vector":
            return frozenset()
        if name == "histogram_quantile":
            _demand({"le"}, given[0], name)
            return given[0] - {"le"}
        if name.startswith("label_") or len(given) > 1:
            raise NotImplementedError(f"{name}: say here which labels it gives")
        return given[0] if given and name != "scalar" else None


def _alternatives(matcher: Matcher) -> Iterable[str]:
    """Return patterns each of which must match some value."""
    if matcher.op in (MatchOp.Equal, MatchOp.NotEqual):
        return [re.escape(matcher.value)]
    return matcher.value.split("|")


def _equals(tree: Expr) -> set[str]:
    if isinstance(tree, MatrixSelector):
        tree = tree.vector_selector
    if not isinstance(tree, VectorSelector):
        return set()
    return {one.name for one in tree.matchers.matchers if one.op == MatchOp.Equal}


def _demand(named: Iterable[str], there: Labels, where: str) -> None:
    missing = sorted(set(named) - there)
    if missing:
        raise UnknownError(f"{where}: no label {', '.join(missing)}, only {sorted(there)}")


def known_of(scrape: str) -> Known:
    """Return what a worker's scrape exports, as Prometheus keeps it, and ``up``."""
    known = Known()
    known.add("up", TARGET)
    for family in text_string_to_metric_families(scrape):
        for sample in family.samples:
            known.add(sample.name, TARGET)
            known.add(sample.name, sample.labels)
    return known
