"""Write `api.txt`: every public name with its signature, so that a change of the API is a diff.

Public is what the package and the doors of its rooms list in `__all__`, and what the ground floor
modules define without an underscore. Read from the sources; nothing is imported. (griffe was tried
first: it cannot resolve a function that is named like the file it stands in.)
"""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "api.txt"
_TITLE = "# The public API, written by scripts/api.py; a change of it is a changelog entry.\n"
_Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.Assign | ast.AnnAssign


def surface(source: Path = ROOT / "src") -> str:
    """Return the text of the lock file for the package under `source`."""
    package = source / "shipworthy"
    doors = [package / "__init__.py", *sorted(package.glob("*.py")), *package.glob("*/__init__.py")]
    lines = dict.fromkeys(
        line for door in sorted(doors) if not _private(door) for line in _lines(door, source)
    )
    return _TITLE + "".join(f"{line}\n" for line in lines)


def _private(door: Path) -> bool:
    return door.name == "__main__.py" or door.parent.name == "cli"  # docs/reference/cli.md


def _lines(door: Path, source: Path) -> Iterator[str]:
    tree = ast.parse(door.read_text(encoding="utf-8"))
    dotted = _dotted(door, source)
    for name in sorted(_exports(tree) or (n for n in _definitions(tree) if not n.startswith("_"))):
        yield from _shown(f"{dotted}.{name}", _find(name, tree, source))


def _exports(tree: ast.Module) -> list[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return []


def _definitions(tree: ast.Module | ast.ClassDef) -> dict[str, _Definition]:
    found: dict[str, _Definition] = {}
    for node in tree.body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            found[node.name] = node
        elif isinstance(node, ast.AnnAssign):
            found[ast.unparse(node.target)] = node
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = node
    return found


def _find(name: str, tree: ast.Module, source: Path) -> _Definition | None:
    """Follow `from shipworthy.room.file import name` to where the name is defined."""
    if name in (here := _definitions(tree)):
        return here[name]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("shipworthy"):
            for alias in node.names:
                path = source / str(node.module).replace(".", "/")
                path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
                if (alias.asname or alias.name) == name and path.exists():
                    return _find(alias.name, ast.parse(path.read_text(encoding="utf-8")), source)
    return None


def _shown(path: str, node: _Definition | None) -> Iterator[str]:
    match node:
        case ast.ClassDef():
            bases = ", ".join(ast.unparse(base) for base in node.bases)
            decorators = "".join(f"@{ast.unparse(one)} " for one in node.decorator_list)
            yield f"{decorators}class {path}" + (f"({bases})" if bases else "")
            for name, member in sorted(_definitions(node).items()):
                if name == "__init__" or not name.startswith("_"):
                    yield from _shown(f"{path}.{name}", member)
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            word = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
            result = f" -> {ast.unparse(node.returns)}" if node.returns else ""
            yield f"{word} {path}({ast.unparse(node.args)}){result}"
        case ast.AnnAssign():
            default = f" = {ast.unparse(node.value)}" if node.value else ""
            yield f"{path}: {ast.unparse(node.annotation)}{default}"
        case _:
            yield path


def _dotted(path: Path, source: Path) -> str:
    parts = path.relative_to(source).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


if __name__ == "__main__":
    LOCK.write_text(surface(), encoding="utf-8")
