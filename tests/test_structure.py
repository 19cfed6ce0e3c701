"""The shape of the repository: sizes, and what may lie where."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "featgraph"
MODULES = sorted(PACKAGE.rglob("*.py"))
TEXT = {".py", ".sql", ".toml", ".sh", ".md"}
TOP = {"featgraph", "ingest", "queries", "tests", "docs", "examples"} | {
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "constraints.txt",
}
MAX_LINES = 400
MAX_FUNCTION = 60


def written_by_hand() -> list[Path]:
    folders = [ROOT / name for name in ("featgraph", "ingest", "queries", "tests", "docs")]
    inside = [path for folder in folders for path in folder.rglob("*") if path.suffix in TEXT]
    return sorted([*inside, *(path for path in ROOT.iterdir() if path.suffix in TEXT)])


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


def test_no_file_is_over_400_lines() -> None:
    lengths = {path: path.read_text(encoding="utf-8").count("\n") for path in written_by_hand()}
    assert {str(path.relative_to(ROOT)): lines for path, lines in lengths.items() if lines > MAX_LINES} == {}


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_function_is_over_60_lines(module: Path) -> None:
    nodes = ast.walk(ast.parse(module.read_text(encoding="utf-8")))
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert {node.name: length(node) for node in functions if length(node) > MAX_FUNCTION} == {}


@pytest.mark.parametrize("folder", ["ingest", "queries"])
def test_data_folders_hold_no_python(folder: str) -> None:
    assert list((ROOT / folder).rglob("*.py")) == []


def test_nothing_is_added_to_the_top_level() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout, so nothing says which files belong to it")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    top = {line.split("/", 1)[0] for line in listed.splitlines()}
    assert {name for name in top if not name.startswith(".")} - TOP == set()


PACKAGES = sorted(path.parent for path in PACKAGE.glob("*/**/__init__.py"))


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_package_docstring_lists_its_modules(package: Path) -> None:
    docstring = ast.get_docstring(ast.parse((package / "__init__.py").read_text(encoding="utf-8"))) or ""
    listed = re.findall(r"^ *([a-z]\w*(?:, [a-z]\w*)*) {2,}\S", docstring, flags=re.MULTILINE)
    modules = {path.stem for path in package.glob("*.py")} | {
        path.parent.name for path in package.glob("*/__init__.py")
    }
    modules -= {"__init__", "__main__"}
    assert {name for names in listed for name in names.split(", ")} - modules == set()
    assert modules - set(re.findall(r"\w+", docstring)) == set()
