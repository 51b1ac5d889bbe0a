"""What the documents name, and what of it does not exist. Pure: what exists is handed in."""

import ast
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PRAISE = re.compile(
    r"\b(robust|comprehensive|enterprise[- ]grade|enterprise-ready|advanced|smart|powerful|"
    r"seamless(ly)?|blazing(ly)?|cutting[- ]edge|state[- ]of[- ]the[- ]art|world[- ]class|"
    r"effortless(ly)?|battle[- ]tested|intelligent|revolutionary|production[- ]ready)\b",
    re.IGNORECASE,
)
_FENCE = re.compile(r"^(`{3,}|:{3,})\{?([\w-]*)\}?[^\n]*\n(.*?)^\1\s*$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_FILE = re.compile(r"[\w.*-]+(/[\w.*-]+)*/?\Z")
_ENV = re.compile(r"SHIPWORTHY_([A-Z0-9]+)__([A-Z0-9_]+)\Z")
# A path that is ours begins with one of these; others are the reader's.
_FOLDERS = ("src/", "tests/", "docs/", "scripts/", "benchmarks/", "evidence/", "changes/", ".ci/")


@dataclass(frozen=True, slots=True)
class Document:
    """One Markdown file."""

    path: str
    text: str

    def blocks(self, language: str) -> Iterator[str]:
        """Yield the bodies of the fenced blocks of a language."""
        yield from (m[3] for m in _FENCE.finditer(self.text) if m[2] == language)

    def spans(self) -> Iterator[str]:
        """Yield what stands in single backticks outside of blocks."""
        yield from _CODE.findall(_FENCE.sub("", self.text))

    def links(self) -> Iterator[str]:
        """Yield link targets inside the repository, without their anchors."""
        for target in _LINK.findall(_FENCE.sub("", self.text)):
            if "://" not in target and not target.startswith(("#", "mailto:")):
                yield target.partition("#")[0]

    def commands(self) -> Iterator[str]:
        """Yield what is typed: `$` lines of console blocks, and inline `shipworthy ...`."""
        for block in self.blocks("console"):
            yield from (line[2:] for line in block.splitlines() if line.startswith("$ "))
        yield from (span for span in self.spans() if span.startswith("shipworthy "))


def documents() -> list[Document]:
    """Read every document of the repository, but not what is built from them."""
    paths = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "changes").glob("*.md")]
    return [
        Document(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
        for path in sorted(paths)
        if "_build" not in path.parts
    ]


def praise(document: Document) -> list[str]:
    """Say where a document praises itself; facts do that better."""
    return [
        f"{document.path}:{number}: '{found[0]}'; say what it does instead"
        for number, line in enumerate(document.text.splitlines(), 1)
        if (found := PRAISE.search(line))
    ]


def dead_links(document: Document, exists: Callable[[str], bool]) -> list[str]:
    """Say which links lead to no file; `exists` takes a path from the document's folder."""
    return [
        f"{document.path}: links to {target}, which is not there"
        for target in document.links()
        if not exists(target)
    ]


def unknown_files(document: Document, exists: Callable[[str], bool]) -> list[str]:
    """Say which files of ours are named in backticks and are not there; `*` is a pattern."""
    return [
        f"{document.path}: names the file `{span}`, which is not there"
        for span in document.spans()
        if span.startswith(_FOLDERS) and _FILE.match(span) and not exists(span)
    ]


def unknown_names(document: Document, resolves: Callable[[str], bool]) -> list[str]:
    """Say which Python names of ours, in backticks or imported by an example, do not exist."""
    named = {
        span.partition("(")[0]
        for span in document.spans()
        if re.match(r"shipworthy(\.\w+)+(\(|\Z)", span) and not span.endswith((".toml", ".md"))
    }
    for block in document.blocks("python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("shipworthy"):
                named |= {f"{node.module}.{alias.name}" for alias in node.names}
    return [
        f"{document.path}: names {name} of Python, which does not exist"
        for name in sorted(named)
        if not resolves(name)
    ]


def unknown_commands(document: Document, verbs: Mapping[str, Collection[str]]) -> list[str]:
    """Say which commands or options do not exist; `verbs` maps "config show" to its options."""
    found = []
    for command in document.commands():
        words = re.split(r"\s+(?:#|&|\|)", command)[0].split()
        while words and re.match(r"[A-Z_]+=", words[0]):
            words.pop(0)
        if not words or words[0] != "shipworthy":
            continue
        plain = [word for word in words[1:] if not word.startswith("-")]
        known = (v for n in (3, 2, 1) if (v := " ".join(plain[:n])) in verbs)
        verb = next(known, "")
        if plain and not verb and plain[0].islower() and ":" not in plain[0]:
            found.append(f"{document.path}: `{command}`: there is no command {plain[0]}")
            continue
        found += [
            f"{document.path}: `{command}`: {verb or 'shipworthy'} has no option {option}"
            for option in (word.partition("=")[0] for word in words[1:] if word.startswith("-"))
            if option not in verbs[verb]
        ]
    return found


def unknown_settings(
    document: Document, keys: Collection[str], facts: Collection[str]
) -> list[str]:
    """Say which settings are named and do not exist: `serve.port`, or their variables.

    `facts` are the names of events, which look the same.
    """
    sections = {key.partition(".")[0] for key in keys}
    found = []
    for span in document.spans():
        variable = _ENV.match(span.partition("=")[0])
        if variable and variable[1] != "SECTION":  # `SHIPWORTHY_SECTION__KEY` is the pattern
            # Of a setting in tables that people name, NAME stands in the place of the name.
            name = variable[2].removesuffix("_FILE").replace("__NAME__", ".NAME.")
            key = ".".join(
                part if part == "NAME" else part.lower() for part in (variable[1], *name.split("."))
            )
        elif re.fullmatch(r"[a-z_]+\.[a-z_]+", span) and span.partition(".")[0] in sections:
            key = span
        else:
            continue
        if key not in keys and key not in facts and not key.endswith((".py", ".md", ".html")):
            found.append(
                f"{document.path}: names the setting or event `{span}`, which does not exist"
            )
    return found


def unknown_metrics(document: Document, metrics: Collection[str]) -> list[str]:
    """Say which metrics are named and not declared."""
    return [
        f"{document.path}: names the metric `{span}`, which is not declared"
        for span in document.spans()
        if re.fullmatch(r"shipworthy_[a-z_]+", span) and span not in metrics
    ]
