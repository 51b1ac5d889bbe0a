"""The house rules, each a pure function from parsed sources to the sentences that are wrong.

A sentence names the place and the remedy. An empty list means that the rule holds.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from shipworthy.events import Metric
from tidy.house import Module

FRONT_DOORS = (
    "shipworthy",
    "shipworthy.cli",
    "shipworthy.__main__",
    "shipworthy.faults.__main__",
)
DIALECTS = frozenset(
    {"sqlite", "postgresql", "postgres", "mysql", "mariadb", "psycopg", "asyncpg", "pymysql",
     "asyncmy", "aiosqlite"}
)  # fmt: skip
_VAGUE_FILES = frozenset(
    {"base", "common", "handler", "handlers", "helper", "helpers", "manager", "managers", "misc",
     "shared", "stuff", "util", "utils"}
)  # fmt: skip
_VAGUE_CLASS = re.compile(
    r"(Manager|Handler|Helper|Utils?|Service|Wrapper)$|^_?(Enhanced|Advanced|Smart|Intelligent|Base)[A-Z]"
)
# Rooms whose subject is a database. Elsewhere no code may ask which one it talks to.
_MAY_NAME_DIALECTS = ("shipworthy.demo",)


def entered_by_the_window(modules: Sequence[Module]) -> list[str]:
    """Rule 1: other rooms import `shipworthy.web`, never `shipworthy.web.line`."""
    known = _names(modules)
    return [
        f"{module.path}:{line}: imports {target}; import it from its door, {_room(target)}"
        for module in modules
        for target, line in module.imports(known)
        if target.count(".") > 1 and _room(target) != module.room
    ]


def not_reached(modules: Sequence[Module], doors: Sequence[str] = FRONT_DOORS) -> list[str]:
    """Rule 2: code that nothing calls is not a feature, however well it is tested.

    A module is reached by an import, at any depth of a function, or by its full name as a string
    (`python -m`, `module:app`) in a module that is reached.
    """
    known = frozenset(module.name for module in modules)
    names = _names(modules)
    by_name = {module.name: module for module in modules}
    reached: set[str] = set()
    ahead = [door for door in doors if door in known]
    while ahead:
        name = ahead.pop()
        if name in reached:
            continue
        reached.add(name)
        module = by_name[name]
        targets = {target for target, _ in module.imports(names)}
        targets |= set(module.names_as_text(known))
        ahead += [target for target in targets if target in known]
        ahead += [parent for parent in [name.rpartition(".")[0]] if parent in known]
    return [
        f"{by_name[name].path}: no front door ({', '.join(doors)}) leads here; call it or delete it"
        for name in sorted(known - reached)
    ]


def vague_names(modules: Sequence[Module]) -> list[str]:
    """Rule 3: a name says what the thing is, so nothing is called a helper or a manager."""
    found = []
    for module in modules:
        last = module.name.rpartition(".")[2]
        if last in _VAGUE_FILES:
            found.append(f"{module.path}: '{last}' says nothing; name the file after what it holds")
        found += [
            f"{module.path}:{node.lineno}: class {node.name}: name it after what it is"
            for node in ast.walk(module.tree)
            if isinstance(node, ast.ClassDef) and _VAGUE_CLASS.search(node.name)
        ]
    return found


def ambiguous_classes(modules: Sequence[Module]) -> list[str]:
    """Rule 4: a public class name means one thing in the whole package."""
    places: dict[str, list[str]] = defaultdict(list)
    for module in modules:
        for node in module.tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(f"{module.path}:{node.lineno}")
    return [
        f"{', '.join(where)}: class {name} means {len(where)} things; rename all but one"
        for name, where in sorted(places.items())
        if len(where) > 1
    ]


def silent_excepts(modules: Sequence[Module]) -> list[str]:
    """Rule 5: whoever catches everything does something about it."""
    return [
        f"{module.path}:{line}: catches everything and does nothing; catch less, or say it"
        for module in modules
        for line in _silent_lines(module.tree)
    ]


def doors_without_a_sign(modules: Sequence[Module]) -> list[str]:
    """Rule 6: a room's `__init__` says what it is, and under "Not here:" what it is not."""
    found = []
    for module in modules:
        if not module.is_door:
            continue
        sign = ast.get_docstring(module.tree) or ""
        if not sign:
            found.append(f"{module.path}:1: no docstring; say what the room is")
        elif "\n\nNot here:" not in sign:
            found.append(f'{module.path}:1: no paragraph "Not here:"; say where the rest lives')
        if not module.offers:
            found.append(f"{module.path}:1: no __all__; say what the room offers")
    return found


def dialects_outside(modules: Sequence[Module]) -> list[str]:
    """Rule 7: only a `dialects/` folder knows which database it talks to."""
    return [
        f"{module.path}:{node.lineno}: names the dialect '{node.value}'; ask the dialect instead"
        for module in modules
        if "/dialects/" not in module.path and module.room not in _MAY_NAME_DIALECTS
        for compare in ast.walk(module.tree)
        if isinstance(compare, (ast.Compare, ast.MatchValue))
        for node in ast.walk(compare)
        if isinstance(node, ast.Constant) and node.value in DIALECTS
    ]


def tests_out_of_place(modules: Sequence[Module], tests: Iterable[str]) -> list[str]:
    """Rule 12: `web/line.py` is tested by `tests/web/test_line.py`, and nothing else is there.

    `tests` are paths relative to the tests folder. Folders that are no room (flows, tidy, docs,
    contracts, attacks, typing) may hold what they like.
    """
    wanted = {_test_of(module.name) for module in modules if module.name.count(".")}
    rooms = {module.name.split(".")[1] for module in modules if module.is_door}
    return [
        f"tests/{path}: tests no module of that name; name it after the module it tests"
        for path in sorted(tests)
        if path.rpartition("/")[2].startswith("test_")
        and path.partition("/")[0] in (rooms | {path})
        and path not in wanted
    ]


def untested(modules: Sequence[Module], tests: Iterable[str]) -> list[str]:
    """Rule 12, the other way: every module that decides or does something has its test file."""
    there = set(tests)
    return [
        f"{module.path}: has no tests/{_test_of(module.name)}; write it"
        for module in modules
        if module.name.count(".") and _does_something(module) and _test_of(module.name) not in there
    ]


def left_to_do(files: Iterable[tuple[str, str]]) -> list[str]:
    """Nothing is left to do in a comment: do it, or file it. Takes paths with their text."""
    mark = re.compile(r"(#|<!--|//)\s*(TODO|FIXME|XXX|HACK)\b")
    return [
        f"{path}:{number}: '{found[2]}' in a comment; do it now, or file an issue"
        for path, text in files
        for number, line in enumerate(text.splitlines(), 1)
        if (found := mark.search(line))
    ]


def strangers_in_the_demo(modules: Sequence[Module]) -> list[str]:
    """The demo's service knows nothing of us, and what hardens it uses public names only."""
    known = _names(modules)
    found = []
    for module in modules:
        if module.room != "shipworthy.demo":
            continue
        for target, line in module.imports(known):
            if module.name == "shipworthy.demo.hardened":
                # Its own service, and the package's front door.
                if target == "shipworthy" or target.startswith("shipworthy.demo"):
                    continue
                found.append(f"{module.path}:{line}: imports {target}; use `shipworthy` itself")
            elif _is_service(module, modules) and not target.startswith("shipworthy.demo."):
                found.append(f"{module.path}:{line}: the service imports {target}; it must not")
    return found


def _is_service(module: Module, modules: Sequence[Module]) -> bool:
    """Is this the demo's service, or a module the service imports?"""
    known = _names(modules)
    by_name = {other.name: other for other in modules}
    seen: set[str] = set()
    ahead = ["shipworthy.demo.service"]
    while ahead:
        name = ahead.pop()
        if name in seen or name not in by_name:
            continue
        seen.add(name)
        ahead += [
            target
            for target, _ in by_name[name].imports(known)
            if target.startswith("shipworthy.demo.")
        ]
    return module.name in seen


def _names(modules: Sequence[Module]) -> frozenset[str]:
    """The modules that `from room import name` can mean: not those whose name the room offers."""
    offered = {name for module in modules for name in module.offers}
    return frozenset(module.name for module in modules) - offered


def _room(name: str) -> str:
    return ".".join(name.split(".")[:2])


def _test_of(name: str) -> str:
    *folders, last = name.split(".")[1:]
    return "/".join([*folders, f"test_{last.strip('_')}.py"])


def _does_something(module: Module) -> bool:
    """Does the file hold a function that acts, rather than a door, data or declarations?"""
    if module.path.endswith(("__init__.py", "__main__.py")):
        return False
    return any(
        isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not _empty(node.body)
        for node in ast.walk(module.tree)
    )


def _silent_lines(tree: ast.Module) -> list[int]:
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and _broad(node.type) and _empty(node.body):
            lines.append(node.lineno)
        elif isinstance(node, (ast.With, ast.AsyncWith)):
            for item in node.items:
                call = item.context_expr
                if (
                    isinstance(call, ast.Call)
                    and ast.unparse(call.func).endswith("suppress")
                    and any(_broad(argument) for argument in call.args)
                ):
                    lines.append(node.lineno)
    return lines


def _broad(caught: ast.expr | None) -> bool:
    if caught is None:
        return True
    if isinstance(caught, ast.Tuple):
        return any(_broad(one) for one in caught.elts)
    return ast.unparse(caught).rpartition(".")[2] in {"Exception", "BaseException"}


def _empty(body: list[ast.stmt]) -> bool:
    return all(
        isinstance(statement, (ast.Pass, ast.Continue))
        or (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
        for statement in body
    )


def unshown(metrics: Iterable[Metric], shown: Iterable[Metric]) -> list[str]:
    """Rule 8: every metric is in a panel or an alert, or says why not; not both."""
    seen = set(shown)
    return [
        f"metric {metric.name} is in no panel and no alert; show it, or say in `unshown` why not"
        if not metric.unshown
        else f"metric {metric.name} is shown, and says that it is not: {metric.unshown}"
        for metric in metrics
        if (metric in seen) is bool(metric.unshown)
    ]


def never_emitted(modules: Sequence[Module]) -> list[str]:
    """Rule 8: every event that is declared is given to somebody who emits it."""
    nodes = [(module.path, node) for module in modules for node in ast.walk(module.tree)]
    used = {node.id for _, node in nodes if isinstance(node, ast.Name)}
    return [
        f"{path}:{node.lineno}: the event {node.name} is never emitted; emit it or delete it"
        for path, node in nodes
        if isinstance(node, ast.ClassDef) and _is_event(node) and node.name not in used
    ]


def _is_event(node: ast.ClassDef) -> bool:
    return any(
        isinstance(mark, ast.Call) and isinstance(mark.func, ast.Name) and mark.func.id == "event"
        for mark in node.decorator_list
    )
