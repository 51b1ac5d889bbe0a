"""Alembic projects made for a test, with an `env.py` as people write them."""

from pathlib import Path
from textwrap import dedent, indent

import alembic

from shipworthy.db.migrate import AlembicProject

# As `alembic init` writes it, without the logging.
ENV = """
from sqlalchemy import engine_from_config, pool
from alembic import context

config = context.config


def run_migrations_online():
    connectable = engine_from_config(
        config.get_section(config.config_ini_section, {}),
        prefix="sqlalchemy.",
        poolclass=pool.NullPool,
    )
    with connectable.connect() as connection:
        context.configure(connection=connection, target_metadata=None)
        with context.begin_transaction():
            context.run_migrations()


run_migrations_online()
"""
# As a service writes it that also migrates from Python: Alembic's cookbook has it so.
OFFERED_ENV = """
from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
"""
# As `alembic init -t async` writes it.
ASYNC_ENV = """
import asyncio
from sqlalchemy import pool
from sqlalchemy.ext.asyncio import async_engine_from_config
from alembic import context

config = context.config


def do_run_migrations(connection):
    context.configure(connection=connection, target_metadata=None)
    with context.begin_transaction():
        context.run_migrations()


async def run_async_migrations():
    connectable = async_engine_from_config(
        config.get_section(config.config_ini_section, {}),
        prefix="sqlalchemy.",
        poolclass=pool.NullPool,
    )
    async with connectable.connect() as connection:
        await connection.run_sync(do_run_migrations)
    await connectable.dispose()


asyncio.run(run_async_migrations())
"""
REVISION = '''"""{name}."""

import sqlalchemy as sa
from alembic import op

revision = "{name}"
down_revision = {down!r}


def upgrade():
{body}
'''


def make_project(folder: Path, url: str, *bodies: str, env: str = ENV) -> AlembicProject:
    """Write a project whose revisions `r1`, `r2`, ... have these bodies, and open it."""
    versions = folder / "migrations" / "versions"
    versions.mkdir(parents=True, exist_ok=True)
    (folder / "alembic.ini").write_text(
        f"[alembic]\nscript_location = {folder / 'migrations'}\npath_separator = os\n"
        f"sqlalchemy.url = {url.replace('%', '%%')}\n"
    )
    (folder / "migrations" / "env.py").write_text(env)
    for number, body in enumerate(bodies, 1):
        text = REVISION.format(
            name=f"r{number}",
            down=f"r{number - 1}" if number > 1 else None,
            body=indent(dedent(body).strip(), "    "),
        )
        (versions / f"r{number}.py").write_text(text)
    return AlembicProject(folder / "alembic.ini")


def give_template(folder):
    """Put the file beside `env.py` by which Alembic writes revisions, as `alembic init` does."""
    template = Path(alembic.__file__).parent / "templates" / "generic" / "script.py.mako"
    (folder / "migrations" / "script.py.mako").write_text(template.read_text())
