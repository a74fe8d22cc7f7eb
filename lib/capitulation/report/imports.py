"""Which library files a notebook depends on, found by reading the imports, never by running them.

The answer errs on the safe side: a module that is named in a string counts as imported, and a package that imports by
a computed name counts with all its modules.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

PACKAGE = "capitulation"
LIBRARY = Path(__file__).resolve().parents[1]


@cache
def modules(library: Path = LIBRARY) -> dict[str, Path]:
    """Every module of the library by its dotted name."""
    found = {}
    for path in sorted(library.rglob("*.py")):
        parts = path.relative_to(library).with_suffix("").parts
        names = (PACKAGE, *(parts[:-1] if parts[-1] == "__init__" else parts))
        found[".".join(names)] = path
    return found


def imported_names(source: str) -> set[str]:
    """Dotted names that Python source may import from the library, with every dotted name it holds as text.

    >>> sorted(imported_names("import capitulation as cap; from capitulation.mining import ribbons"))
    ['capitulation', 'capitulation.mining', 'capitulation.mining.ribbons']
    """
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        names |= _names_of(node)
    return {name for name in names if name == PACKAGE or name.startswith(f"{PACKAGE}.")}


def _names_of(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    if isinstance(node, ast.ImportFrom) and node.module:
        return {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return {node.value}
    if isinstance(node, ast.JoinedStr) and isinstance(node.values[0], ast.Constant):
        return {f"{node.values[0].value}*"}
    return set()


def needed_modules(names: Iterable[str], known: Mapping[str, Path]) -> set[str]:
    """`names`, the packages around them, and all they import in turn."""
    waiting, needed = list(names), set()
    while waiting:
        name = waiting.pop()
        for module in _expand(name, known) - needed:
            needed.add(module)
            waiting += _imports_of(known[module])
    return needed


def _expand(name: str, known: Mapping[str, Path]) -> set[str]:
    """Known modules behind a name: itself and its packages; all that start alike where it ends in a star."""
    if name.endswith("*"):
        return {module for module in known if module.startswith(name[:-1])}
    parts = name.split(".")
    return {".".join(parts[:n]) for n in range(1, len(parts) + 1)} & set(known)


@cache
def _imports_of(path: Path) -> frozenset[str]:
    return frozenset(imported_names(path.read_text(encoding="utf-8")))
