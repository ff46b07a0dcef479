"""The mutants of a file, each one small mistake, and a sample of them that the seed decides.

The mistakes are mutmut's, and two more: a statement left out, a condition that always or never
holds. Type annotations, decorators, type aliases, ``strict`` of ``zip`` (a check of our own that no
input fails), names that Python reads in either case and texts for people (those with a blank) stay.
"""

import ast
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import libcst as cst
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation.mutators import mutation_operators

UNTOUCHED_CALLS = {"cast", "len", "isinstance", "TypeVar"}


@dataclass(frozen=True)
class Mutant:
    """One mistake in one file: where, the lines before and after, and the whole file with it."""

    file: str
    line: int
    before: str
    after: str
    source: str


@dataclass(frozen=True)
class _Mistake:
    line: int
    node: cst.CSTNode
    instead: cst.CSTNode
    text: str


class Catalogue:
    """All mutants of one file.

    Args:
        file: its path, as it is told.
        source: what it holds.
    """

    def __init__(self, file: str, source: str) -> None:
        self.file = file
        self.source = source
        self._program = ast.dump(ast.parse(source))
        wrapper = MetadataWrapper(cst.parse_module(source))
        visitor = _Visitor(wrapper.module)
        wrapper.visit(visitor)
        self._module = wrapper.module
        self._mistakes = visitor.found

    @property
    def lines(self) -> int:
        """How many lines the file has."""
        return self.source.count("\n")

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._mistakes)

    def sample(self, size: int, seed: int) -> list[Mutant]:
        """Return so many mutants, the same ones for the same seed, on as many lines as possible.

        Each mistake draws its own lot from its words, so that a change elsewhere in the file leaves
        the others in the sample.
        """
        taken: dict[int, int] = {}
        ranked = []
        for mistake in sorted(self._mistakes, key=lambda mistake: self._lot(mistake, seed)):
            ranked.append((taken.get(mistake.line, 0), mistake))
            taken[mistake.line] = taken.get(mistake.line, 0) + 1
        ranked.sort(key=lambda pair: pair[0])
        found: list[Mutant] = []
        for _, mistake in ranked:
            if len(found) == size:
                break
            if (mutant := self._made(mistake)) is not None:
                found.append(mutant)
        return sorted(found, key=lambda mutant: mutant.line)

    def holds(self, before: str, after: str) -> bool:
        """Tell whether one of the mutants turns these lines into those."""
        close = (mistake for mistake in self._mistakes if self._may_turn(mistake, before, after))
        made = (self._made(mistake) for mistake in close)
        return any(m is not None and (m.before, m.after) == (before, after) for m in made)

    def _may_turn(self, mistake: _Mistake, before: str, after: str) -> bool:
        """Tell quickly whether a mistake in a line or around it may turn lines into others."""
        words, text = _stripped(self._words(mistake)), _stripped(mistake.text)
        return (words in before and text in after) or (before in words and after in text)

    def _words(self, mistake: _Mistake) -> str:
        return self._module.code_for_node(mistake.node)

    def _lot(self, mistake: _Mistake, seed: int) -> bytes:
        words = f"{seed} {self.file} {self._words(mistake)} {mistake.text}"
        return hashlib.sha256(words.encode()).digest()

    def _made(self, mistake: _Mistake) -> Mutant | None:
        """Return the mutant of a mistake, None where that is no Python or the same program."""
        changed = self._module.deep_replace(mistake.node, mistake.instead)
        source = cst.ensure_type(changed, cst.Module).code
        try:
            if ast.dump(ast.parse(source)) == self._program:
                return None
        except SyntaxError:
            return None
        old, new = self.source.splitlines(), source.splitlines()
        first = _alike(old, new)
        last = min(_alike(old[::-1], new[::-1]), len(old) - first, len(new) - first)
        before, after = (
            _stripped("\n".join(lines[first : len(lines) - last])) for lines in (old, new)
        )
        return Mutant(self.file, first + 1, before, after, source)


def _stripped(text: str) -> str:
    return "\n".join(line.strip() for line in text.splitlines())


def _alike(one: Sequence[str], other: Sequence[str]) -> int:
    """Return with how many equal lines two files begin."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


class _Visitor(cst.CSTVisitor):
    """Collects the mistakes that can be made in a module."""

    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self, module: cst.Module) -> None:
        super().__init__()
        self.found: list[_Mistake] = []
        self._module = module

    def on_visit(self, node: cst.CSTNode) -> bool:
        if _stays(node):
            return False
        place = self.get_metadata(PositionProvider, node, None)
        if place is not None:
            for instead in _mistakes(node):
                text = self._module.code_for_node(instead)
                self.found.append(_Mistake(place.start.line, node, instead, text))
        return True


def _stays(node: cst.CSTNode) -> bool:
    """Tell whether a node, and all within, is left as it is."""
    match node:
        case cst.Annotation() | cst.Decorator() | cst.Import() | cst.ImportFrom():
            return True
        case cst.Call(func=cst.Name(value=name)):
            return name in UNTOUCHED_CALLS
        case cst.Assign(targets=[cst.AssignTarget(target=cst.Name(value=name))], value=value):
            # Floats = NDArray[np.float32] is a type; LONGEST_NAME and names are not.
            return name[0].isupper() and not name.isupper() and isinstance(value, cst.Subscript)
        case cst.SimpleString(value=text):
            return " " in text or text in ('"utf-8"', '"inf"')
        case cst.Arg(keyword=cst.Name(value="strict")):
            return True
    return False


def _mistakes(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    for kind, operator in mutation_operators:
        if isinstance(node, kind):
            yield from (instead for instead in operator(node) if _is_strict(node, instead))
    match node:
        case cst.Expr(value=cst.Call()) | cst.Raise():
            yield cst.Pass()
        case cst.If() | cst.CompIf():
            yield node.with_changes(test=cst.Name("True"))
        case _:
            return
    if isinstance(node, cst.If):
        yield node.with_changes(test=cst.Name("False"))


def _is_strict(node: cst.CSTNode, instead: cst.CSTNode) -> bool:
    """Tell whether a call is as strict as the one that it stands for."""
    if not isinstance(node, cst.Call) or not isinstance(instead, cst.Call):
        return True
    before, after = (
        [arg.value for arg in call.args if arg.keyword and arg.keyword.value == "strict"]
        for call in (node, instead)
    )
    return len(before) == len(after) and all(a is b for a, b in zip(before, after, strict=True))


def shares(lines: dict[str, int], size: int) -> dict[str, int]:
    """Split a sample over files in proportion to their lines; the largest remainders round up."""
    exact = {file: size * count / sum(lines.values()) for file, count in lines.items()}
    found = {file: int(share) for file, share in exact.items()}
    by_remainder = sorted(lines, key=lambda file: found[file] - exact[file])
    for file in by_remainder[: size - sum(found.values())]:
        found[file] += 1
    return found
