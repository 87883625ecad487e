"""No circle of imports: also none through a package's own __init__, which import-linter does not look at."""

from __future__ import annotations

import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest


def test_no_file_imports_itself_by_way_of_others() -> None:
    """Imports inside functions and under TYPE_CHECKING count."""
    graph = grimp.build_graph("notifications", "certctl", cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert "notifications.engine.task_api" in imports["notifications.delivery"]  # which is imported late
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


def test_tests_take_their_helpers_from_helper_modules() -> None:
    taken = re.compile(r"^\s*(?:from|import) tests\S*\.(?:conftest|test_\w+)\b.*$", re.MULTILINE)
    found = {str(file): taken.findall(file.read_text()) for file in Path(__file__).parent.rglob("*.py")}
    assert {file: lines for file, lines in found.items() if lines} == {}
