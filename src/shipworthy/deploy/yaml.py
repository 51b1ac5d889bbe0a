"""Plain data written as YAML that people read: blocks, one line a value, always the same bytes."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeGuard

# What nobody could take for a number, a date, a switch or a sign of YAML.
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})

Node = Mapping[str, "Node"] | Sequence["Node"] | str | int | float | bool | None


def yaml_text(node: Mapping[str, Node] | Sequence[Node], *, head: str = "") -> str:
    """Return a mapping or a list as a YAML document, with `head` as a comment before it."""
    lines = [f"# {line}".rstrip() for line in head.splitlines()]
    return "\n".join([*lines, *_block(node, ""), ""])


def _block(node: Mapping[str, Node] | Sequence[Node], indent: str) -> Iterator[str]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _entry(f"{indent}{_scalar(key)}:", value, f"{indent}  ")
    else:
        for value in node:
            inner = list(_block(value, f"{indent}  ")) if _has_lines(value) else [_scalar(value)]
            yield f"{indent}- {inner[0].lstrip()}"
            yield from inner[1:]


def _entry(head: str, value: Node, indent: str) -> Iterator[str]:
    if _has_lines(value):
        yield head
        yield from _block(value, indent)
    else:
        yield f"{head} {_scalar(value)}"


def _has_lines(value: Node) -> TypeGuard[Mapping[str, Node] | Sequence[Node]]:
    return isinstance(value, Mapping | Sequence) and not isinstance(value, str) and bool(value)


def _scalar(value: Node) -> str:
    if not isinstance(value, str):
        return json.dumps(value)
    if _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    if value.isprintable():
        return "'" + value.replace("'", "''") + "'"
    # JSON's quotes are YAML's, with the same escapes, but for what it writes in two halves.
    quoted = json.dumps(value, ensure_ascii=False)
    return "".join(one if one.isprintable() else f"\\U{ord(one):08x}" for one in quoted)
