"""Make the mutants of one module: the program of an environment of its own, which has mutmut and no Django.

    python tests/mutants/make.py notifications/queue/release.py    one JSON object a line, on stdout

mutmut's operators change one place of a function at a time. Two more are ours, for what this code is made of:
a call whose value nobody uses is left out, and a condition is turned round.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import libcst as cst
from libcst.metadata import CodeRange, MetadataWrapper, PositionProvider
from mutmut.mutation.mutators import mutation_operators, operator_string

Lines = tuple[int, int]
Changed = tuple[cst.CSTNode, cst.CSTNode, Lines]


def leave_out(node: cst.SimpleStatementLine) -> Iterable[cst.CSTNode]:
    match node.body:
        case [cst.Expr(value=cst.Call() | cst.Await() as call)] if not is_no_rule(call):
            yield node.with_changes(body=[cst.Pass()])


def turn_round(node: cst.If | cst.IfExp) -> Iterable[cst.CSTNode]:
    test = node.test.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
    yield node.with_changes(test=cst.UnaryOperation(cst.Not(), test))


OURS = [(cst.SimpleStatementLine, leave_out), (cst.If, turn_round), (cst.IfExp, turn_round)]
STATEMENTS = (cst.BaseStatement, cst.MatchCase, cst.ExceptHandler)
OPERATORS = [*((kind, how) for kind, how in mutation_operators if how is not operator_string), *OURS]


class Collector(cst.CSTVisitor):
    """What may be changed in one function, its lambdas and the functions within it, and the lines of the
    statement, or the head of it, that each change is in: a test that runs none of them cannot notice."""

    def __init__(self, positions: Mapping[cst.CSTNode, CodeRange]) -> None:
        self.changes: list[Changed] = []
        self.positions = positions
        self.within: list[Lines] = []

    def on_visit(self, node: cst.CSTNode) -> bool:
        if isinstance(node, STATEMENTS):
            self.within.append(self.lines_of(node))
        if is_no_rule(node):
            return False
        for kind, operator in OPERATORS:
            if isinstance(node, kind):
                self.changes += [(node, changed, self.within[-1]) for changed in operator(node)]
        if isinstance(node, cst.BaseString):
            self.changes += [(node, changed, self.within[-1]) for changed in list(operator_string(node))[:1]]
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        if isinstance(original_node, STATEMENTS):
            self.within.pop()

    def lines_of(self, statement: cst.CSTNode) -> Lines:
        start, end = self.positions[statement].start.line, self.positions[statement].end.line
        inner = next(iter(getattr(getattr(statement, "body", None), "body", ())), None)
        if isinstance(inner, cst.BaseStatement) or isinstance(statement, cst.Match):
            first = statement.cases[0] if isinstance(statement, cst.Match) else inner
            end = max(start, self.positions[first].start.line - 1)
        return start, end


def is_no_rule(node: cst.CSTNode) -> bool:
    """Types, docstrings, what is evaluated at the definition, and the words of the log."""
    match node:
        case cst.Annotation() | cst.Decorator() | cst.Param() | cst.Import() | cst.ImportFrom():
            return True
        case cst.Expr(value=cst.BaseString()):
            return True
        case cst.Call(func=cst.Attribute(value=cst.Name("logger"))):
            return True
        case cst.Call(func=cst.Name("cast" | "TypeVar" | "len" | "isinstance")):
            return True
    return False


def functions(body: Iterable[cst.CSTNode], within: str = "") -> Iterator[tuple[str, cst.FunctionDef]]:
    for node in body:
        if isinstance(node, cst.FunctionDef):
            yield f"{within}{node.name.value}", node
        elif isinstance(node, cst.ClassDef):
            yield from functions(node.body.body, f"{within}{node.name.value}.")


def difference(before: str, after: str) -> tuple[list[str], list[str]]:
    """The lines that went and the lines that came, without their margins."""
    lines = list(difflib.ndiff(before.splitlines(), after.splitlines()))
    gone, come = ([line[2:].strip() for line in lines if line.startswith(sign)] for sign in "-+")
    return gone, come


def mutants(source: str) -> Iterator[dict[str, object]]:
    module = cst.parse_module(source)
    positions = MetadataWrapper(module, unsafe_skip_copy=True).resolve(PositionProvider)
    seen = set()
    for name, function in functions(module.body):
        collector = Collector(positions)
        function.body.visit(collector)
        text = module.code_for_node(function)
        version = hashlib.sha256(text.encode()).hexdigest()[:16]
        for old, new, lines in collector.changes:
            changed = function.deep_replace(old, new)
            mutated = module.deep_replace(function, changed).code
            gone, come = difference(text, module.code_for_node(changed))
            identity = (name, tuple(gone), tuple(come))
            if gone != come and identity not in seen and compiles(mutated):
                seen.add(identity)
                yield {
                    "function": name,
                    "version": version,
                    "lines": lines,
                    "before": " ".join(gone),
                    "after": " ".join(come),
                    "source": mutated,
                }


def compiles(source: str) -> bool:
    try:
        compile(source, "mutant", "exec")
    except SyntaxError:
        return False
    return True


if __name__ == "__main__":
    for mutant in mutants(Path(sys.argv[1]).read_text()):
        print(json.dumps(mutant))
