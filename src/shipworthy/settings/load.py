"""From all that was said to the values that hold, each with its origin."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast, final

from shipworthy.errors import SettingsInvalid
from shipworthy.redact import remember, remember_environment
from shipworthy.settings.convert import from_text, from_toml, nearest, shown
from shipworthy.settings.declare import (
    ENVIRONMENTS,
    Environment,
    Kind,
    Option,
    Secret,
    options_of,
    sections,
)
from shipworthy.settings.sources import (
    Document,
    Said,
    open_to_all,
    read_document,
    said_in_document,
    said_in_environment,
    said_on_command_line,
    table_names,
)
from shipworthy.settings.weak import weakness

S = TypeVar("S")


@final
@dataclass(frozen=True, slots=True)
class ShownValue:
    """One setting as it holds: what is shown of it, and who said so."""

    key: str
    shown: str
    origin: str


@final
@dataclass(frozen=True, slots=True)
class Loaded:
    """All sections as they hold in this process; immutable, so free to share."""

    environment: Environment
    file: str
    values: tuple[ShownValue, ...]
    notes: tuple[str, ...]
    _sections: Mapping[type[Any], Any] = field(repr=False)

    def of(self, section: type[S]) -> S:
        """Return the section, as an instance of its dataclass."""
        return cast("S", self._sections[section])

    def refusals(self) -> list[str]:
        """Return what this environment refuses, one sentence for each."""
        sections = self._sections.values()
        return [
            *(
                sentence
                for section in sections
                if (refusals := getattr(section, "refusals", None)) is not None
                for sentence in refusals(self.environment)
            ),
            *(
                sentence
                for section in sections
                if (refusals := getattr(section, "refusals_beside", None)) is not None
                for sentence in refusals(self)
            ),
            *(() if self.environment == "development" else self._weak()),
        ]

    def _weak(self) -> list[str]:
        secrets = (
            (option, getattr(section, option.field))
            for cls, section in self._sections.items()
            for option in options_of(cls)
            if option.kind is Kind.SECRET
        )
        found = [
            (option.key, weakness(value.reveal(), least_characters=option.least_characters))
            for option, value in secrets
        ]
        return [f"{key}: {because}" for key, because in found if because]


def load(
    *,
    file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    directory: Path | None = None,
    overrides: Mapping[str, str] | None = None,
    environment: Environment | None = None,
) -> Loaded:
    """Read every registered section; what is said later in this list wins.

    The default, the default of the environment, `file` (else `shipworthy.toml` of `directory`, else
    `[tool.shipworthy]` of its `pyproject.toml`), the file's `[profile.<environment>.<section>]`,
    `SHIPWORTHY_<SECTION>__<KEY>`, for secrets `..._FILE`, and `overrides` (text by key, from the
    command line). The environment is `SHIPWORTHY_ENV`, unless `environment` names another. Every
    secret read, and those of the application in the process's environment, is redacted from now on.

    Raises `SettingsInvalid` with every problem found, each with its place.
    """
    if environ is None:
        environ = os.environ
        remember_environment(environ)
    problems: list[str] = []
    options = {option.key: option for cls in sections() for option in options_of(cls)}
    named = _environment(environ, problems)
    environment = environment or named
    document = read_document(file, directory or Path.cwd(), problems)
    tables = _named_tables(options, document, environment, environ, problems)
    chosen, others = (
        said_in_document(document, environment, options, problems) if document else ([], [])
    )
    from_environ, notes = said_in_environment(environ, options, problems)
    chosen += from_environ
    chosen += said_on_command_line(overrides or {}, options, problems)

    held = {
        key: (option.default_in(environment), _default_origin(option, environment))
        for key, option in options.items()
    }
    # What is overruled is read too: it would stop the next start, on the day it counts.
    _read(others, options, problems)
    held |= _read(chosen, options, problems)
    for value, _ in held.values():
        if isinstance(value, Secret):
            remember(value.reveal())
    if problems:
        raise SettingsInvalid(problems)
    if document:
        notes += _secrets_in_file(document, chosen, options)
    held = {key: told for key, told in held.items() if key not in tables.elsewhere}
    values = {key: value for key, (value, _) in held.items()}
    for table, names in tables.here.items():
        values[table.key] = {name: _row(table, name, values) for name in names}
    return Loaded(
        environment=environment,
        file=document.name if document else "",
        values=tuple(
            ShownValue(key, shown(options[key], value), origin)
            for key, (value, origin) in held.items()
        ),
        notes=tuple(notes),
        _sections={
            cls: cls(**{option.field: values[option.key] for option in options_of(cls)})
            for cls in sections()
        },
    )


def _environment(environ: Mapping[str, str], problems: list[str]) -> Environment:
    named = environ.get("SHIPWORTHY_ENV") or "development"
    for environment in ENVIRONMENTS:
        if named == environment:
            return environment
    problems.append(
        f"SHIPWORTHY_ENV: no such environment '{named}'{nearest(named, ENVIRONMENTS)}; there are "
        f"{', '.join(ENVIRONMENTS)}"
    )
    return "development"


class _Tables(NamedTuple):
    """The tables that people named: of this environment, and the keys of those only of others."""

    here: dict[Option, tuple[str, ...]]
    elsewhere: frozenset[str]


def _named_tables(
    options: dict[str, Option],
    document: Document | None,
    environment: Environment,
    environ: Mapping[str, str],
    problems: list[str],
) -> _Tables:
    """Put what can be set in each named table among `options`, in place of the tables' own."""
    here: dict[Option, tuple[str, ...]] = {}
    elsewhere: set[str] = set()
    for table in [option for option in options.values() if option.kind is Kind.TABLES]:
        del options[table.key]
        chosen, others = table_names(table, document, environment, environ)
        names = []
        for name in chosen + others:
            try:
                columns = {column.key: column for column in table.of_table(name)}
            except ValueError as error:
                problems.append(f"[{table.key}.{name}]: {error}")
                continue
            options |= columns
            if name in chosen:
                names.append(name)
            else:
                elsewhere |= columns.keys()
        here[table] = tuple(names)
    return _Tables(here, frozenset(elsewhere))


def _row(table: Option, name: str, values: Mapping[str, Any]) -> Any:
    assert table.row is not None
    return table.row(**{column.field: values[column.key] for column in table.of_table(name)})


def _default_origin(option: Option, environment: Environment) -> str:
    return f"{environment} default" if environment in option.profiles else "default"


def _read(
    said: list[Said], options: Mapping[str, Option], problems: list[str]
) -> dict[str, tuple[Any, str]]:
    read: dict[str, tuple[Any, str]] = {}
    for one in said:
        convert = from_text if one.is_text else from_toml
        try:
            read[one.key] = (convert(options[one.key], one.raw), one.origin)
        except ValueError as error:
            problems.append(f"{one.key}: {error} (from {one.origin})")
    return read


def _secrets_in_file(
    document: Document, said: list[Said], options: Mapping[str, Option]
) -> list[str]:
    return [
        f"{one.key}: the secret stands in {one.origin}; "
        + (
            open_to_all(document.mode)
            or f"a file of its own, named by {options[one.key].variable}_FILE, is kept out of "
            f"version control more easily"
        )
        for one in said
        if options[one.key].kind is Kind.SECRET and not one.is_text
    ]
