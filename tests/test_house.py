"""The table of packages in docs/design.md is what the code does."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CODE = ROOT / "indexer"


def rows() -> dict[frozenset[str], set[str]]:
    """For the packages and modules of each row, the names in its last column."""
    table = re.findall(r"^\| (`.*?) \|.*\|(.*?)\|$", (ROOT / "docs/design.md").read_text(), re.MULTILINE)
    found = {}
    for row, used in table:
        names = frozenset(name.removesuffix(".py").rstrip("/") for name in re.findall(r"`(.*?)`", row))
        if all((CODE / name).is_dir() or (CODE / f"{name}.py").is_file() for name in names):
            found[names] = set(re.findall(r"\w+", used))
    return found


def imported() -> dict[str, set[str]]:
    """By package or module of the top, those that it imports, for type checks too."""
    found: dict[str, set[str]] = {}
    for path in CODE.rglob("*.py"):
        name = path.relative_to(CODE).with_suffix("").parts[0]
        found.setdefault(name, set())
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "indexer":
                modules = [f"indexer.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
            elif isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            else:
                continue
            found[name] |= {module.split(".")[1] for module in modules if module.startswith("indexer.")}
        found[name].discard(name)
    return found


def test_a_row_imports_what_its_last_column_names_and_all_of_it() -> None:
    table, real = rows(), imported()
    assert {name for names in table for name in names} == real.keys() - {"__init__", "__main__"}
    base = frozenset[str]().union(*list(table)[:2])
    row_of = {name: names for names in table for name in names} | dict.fromkeys({*base, "base"}, base)
    for names, allowed in table.items():
        used = {row_of[each] for name in names for each in real[name] if each in row_of}
        assert used - {row_of[each] for each in names} == {row_of[each] for each in allowed}, sorted(names)
