"""On which line each key stands."""

import tomllib

import pytest
from hypothesis import given, strategies as st

from shipworthy.settings.lines import lines_of

DOCUMENT = """\
# a comment with = and [brackets]
top = 1

[door]   # a comment
port = 8000
"quoted.key" = 'x = 1'
'literal' = "# no comment \\" ]"
a.b . "c" = true
text = \"\"\"
port = 1
[not.a.table]
escaped \\\"\"\" quotes\"\"\"\"\"
raw = '''
\\'''
hosts = [
  "a", # one ]
  ["b", { deep = 1 }],

  'c',
]
after = 2026-01-02 03:04:05
inline = { x = 1, y.z = [
  2,
], "w" = {} }
empty = ""
last = -0.5

[ shop . cart ]
body = "1KiB"
[[many]]
name = "one"
[[many]]
name = "two"
extra = 1
[profile.production.door]
port = 443"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("top", 2),
        ("door", 4),
        ("door/port", 5),
        ("door/quoted.key", 6),
        ("door/literal", 7),
        ("door/a", 8),
        ("door/a/b/c", 8),
        ("door/text", 9),
        ("door/raw", 13),
        ("door/hosts", 15),
        ("door/hosts/deep", 17),
        ("door/after", 21),
        ("door/inline", 22),
        ("door/inline/x", 22),
        ("door/inline/y/z", 22),
        ("door/inline/w", 24),
        ("door/empty", 25),
        ("door/last", 26),
        ("shop/cart", 28),
        ("shop/cart/body", 29),
        ("many/name", 31),
        ("many/extra", 34),
        ("profile/production/door/port", 36),
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["unix", "windows"])
def test_each_key_is_found_on_its_line(path, line, newline):
    """In tables, dotted keys, inline tables and arrays; never inside texts and comments."""
    lines = lines_of(DOCUMENT.replace("\n", newline))

    assert lines[tuple(path.split("/"))] == line


def test_nothing_else_is_found():
    """What looks like a key inside a text is none."""
    keys = {path[-1] for path in lines_of(DOCUMENT)}

    assert keys == {
        "top", "door", "port", "quoted.key", "literal", "a", "b", "c", "text", "raw", "hosts",
        "deep", "after", "inline", "x", "y", "z", "w", "empty", "last", "shop", "cart", "body",
        "many", "name", "extra", "profile", "production",
    }  # fmt: skip


@pytest.mark.parametrize("document", ["", "\n\n", "# only a comment", "   \t"])
def test_a_document_without_keys_has_no_lines(document):
    """An empty file is a valid one."""
    assert lines_of(document) == {}


@pytest.mark.parametrize("document", ["= 1", "[", "a", "a = [1"])
def test_what_is_no_toml_is_refused(document):
    """It comes after `tomllib`, but it does not run in circles when it does not."""
    with pytest.raises((ValueError, IndexError)):
        lines_of(document)


def paths_in(value, path=()):
    if isinstance(value, list):
        for item in value:
            yield from paths_in(item, path)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield (*path, key)
            yield from paths_in(item, (*path, key))


def escaped(text):
    return text.replace("\\", "\\\\").replace('"', '\\"')


keys = st.one_of(
    st.text(alphabet="abz019_-", min_size=1, max_size=3),
    st.text(alphabet="a.\"'#=[]{} é", max_size=4).map(
        lambda key: '"' + key.replace('"', '\\"') + '"'
    ),
    st.text(alphabet='a."#=[]{} é\\', max_size=4).map(lambda key: f"'{key}'"),
)
texts = st.text(alphabet="a\"'#=[]{}\\\n,", max_size=8)
scalars = st.one_of(
    st.sampled_from(["1", "-0.5", "true", "2026-01-02", "2026-01-02 03:04:05", "1e9", "inf"]),
    texts.map(lambda t: f'"{escaped(t)}"'.replace("\n", "\\n")),
    texts.map(lambda t: f'"""{escaped(t)}"""'),
    texts.map(lambda t: "'''\n" + t.replace("'", "") + "'''"),
    st.sampled_from(["''''quoted'''''", '""""x"""""', "''''''", '""""""', "''", '""']),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: "[" + " ,# ]\n ".join([*items, ""]) + "]"),
        st.lists(st.tuples(keys, inner), max_size=2).map(
            lambda pairs: "{" + ", ".join(f"{key} = {value}" for key, value in pairs) + "}"
        ),
    ),
    max_leaves=4,
)
pairs = st.tuples(st.lists(keys, min_size=1, max_size=2), values).map(
    lambda pair: f"{' . '.join(pair[0])} = {pair[1]} # a = 1\n"
)
headers = st.lists(keys, min_size=1, max_size=3).map(lambda key: f"[ {'.'.join(key)} ]\n")
documents = st.lists(st.one_of(pairs, headers, st.sampled_from(["\n", "# [x]\n"])), max_size=6)


@given(documents)
def test_the_scan_finds_exactly_the_keys_that_tomllib_reads(parts):
    """Whatever is written, each key of the document has a line and no other key is found."""
    document = "".join(parts)
    try:
        table = tomllib.loads(document)
    except ValueError:
        return  # a key twice, a line break in an inline table of an old version

    assert set(lines_of(document)) == set(paths_in(table))


@given(documents, st.integers(0, 5))
def test_a_key_moves_down_with_the_lines_above_it(parts, above):
    """Lines before a document move all its keys by their number."""
    document = "".join(parts)
    try:
        tomllib.loads(document)
    except ValueError:
        return

    moved = lines_of("# x\n" * above + document)

    assert moved == {path: line + above for path, line in lines_of(document).items()}
