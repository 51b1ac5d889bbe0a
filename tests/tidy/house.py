"""The sources as the house rules see them: parsed, never imported."""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).parents[2]
PACKAGE = "shipworthy"


@dataclass(frozen=True, slots=True)
class Module:
    """One source file: where it stands, what it is called, and its tree."""

    path: str
    name: str
    tree: ast.Module

    @property
    def room(self) -> str:
        """`shipworthy.web` for everything in it; a ground floor module is a room of its own."""
        return ".".join(self.name.split(".")[:2])

    @property
    def is_door(self) -> bool:
        """Is this the `__init__` of a room?"""
        return self.path.endswith("__init__.py") and self.name.count(".") == 1

    def imports(self, known: frozenset[str]) -> Iterator[tuple[str, int]]:
        """Yield what is imported of ours, anywhere in the file, as module name and line."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((alias.name, node.lineno) for alias in node.names if _ours(alias.name))
            elif isinstance(node, ast.ImportFrom) and _ours(self._absolute(node)):
                source = self._absolute(node)
                for alias in node.names:
                    inner = f"{source}.{alias.name}"
                    yield (inner if inner in known else source), node.lineno

    @property
    def offers(self) -> frozenset[str]:
        """The full names in `__all__`: `shipworthy.events.emit` is a function, not the file."""
        return frozenset(
            f"{self.name}.{node.value}"
            for statement in self.tree.body
            if isinstance(statement, (ast.Assign, ast.AnnAssign)) and statement.value
            if "__all__" in ast.unparse(statement).split("=")[0]
            for node in ast.walk(statement.value)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        )

    def names_as_text(self, known: frozenset[str]) -> Iterator[str]:
        """Yield modules named by a whole string: `python -m` and `module:attribute` targets.

        A room named so is its `__main__` too.
        """
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                target = node.value.partition(":")[0]
                yield from known & {target, f"{target}.__main__"}

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = self.name.split(".")
        here = parts if self.path.endswith("__init__.py") else parts[:-1]
        return ".".join([*here[: len(here) - node.level + 1], *filter(None, [node.module])])


def _ours(name: str) -> bool:
    return name == PACKAGE or name.startswith(f"{PACKAGE}.")


def modules_under(source: Path = ROOT / "src") -> list[Module]:
    """Parse every module of the package. Migrations are data that Alembic finds by place."""
    return [
        _module(path.relative_to(source.parent).as_posix(), path.read_text(encoding="utf-8"))
        for path in sorted((source / PACKAGE).rglob("*.py"))
        if "migrations" not in path.parts
    ]


def sample(files: Mapping[str, str]) -> list[Module]:
    """Make modules of texts, for showing that a rule can fail; keys are paths in the package."""
    return [_module(f"src/{PACKAGE}/{path}", dedent(text)) for path, text in sorted(files.items())]


def _module(path: str, text: str) -> Module:
    name = path.removeprefix("src/").removesuffix(".py").removesuffix("/__init__")
    return Module(path=path, name=name.replace("/", "."), tree=ast.parse(text, filename=path))
