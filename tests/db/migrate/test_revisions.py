"""Alembic projects, read and not run."""

import pytest
from sqlalchemy import text

from db.migrate.projects import give_template, make_project
from shipworthy.db.migrate import AlembicProject, project_file, run_migrations
from shipworthy.errors import Misuse

TABLE = 'op.create_table("t", sa.Column("id", sa.Integer, primary_key=True))'


def read(project, engine, applied=()):
    with engine.connect() as connection:
        return [project.read(script, connection) for script in project.pending(applied)]


def test_a_project_is_found_by_its_file(tmp_path):
    """alembic.ini first, then a pyproject.toml that tells of Alembic."""
    assert project_file(None, tmp_path) is None

    (tmp_path / "pyproject.toml").write_text("[tool.other]\nx = 1\n")
    assert project_file(None, tmp_path) is None
    (tmp_path / "pyproject.toml").write_text("this is no TOML")
    assert project_file(None, tmp_path) is None
    (tmp_path / "pyproject.toml").write_text('[tool.alembic]\nscript_location = "migrations"\n')
    assert project_file(None, tmp_path) == tmp_path / "pyproject.toml"
    (tmp_path / "alembic.ini").write_text("[alembic]\n")
    assert project_file(None, tmp_path) == tmp_path / "alembic.ini"


def test_a_file_that_is_named_and_not_there_is_misuse(tmp_path):
    """Another one is not taken in its place."""
    with pytest.raises(Misuse, match="there is no file"):
        project_file(tmp_path / "alembic.ini")


def test_a_file_that_tells_of_no_project_is_misuse(tmp_path):
    """With Alembic's own words."""
    (tmp_path / "alembic.ini").write_text("[alembic]\n")

    with pytest.raises(Misuse, match="tells of no Alembic project"):
        AlembicProject(tmp_path / "alembic.ini")


def test_a_project_in_toml_is_read(sqlite_url, connect, tmp_path):
    """As Alembic itself does since 1.16."""
    make_project(tmp_path, sqlite_url, TABLE)
    (tmp_path / "alembic.ini").unlink()
    (tmp_path / "pyproject.toml").write_text(
        f'[tool.alembic]\nscript_location = "{tmp_path / "migrations"}"\n'
    )
    project = AlembicProject(tmp_path / "pyproject.toml")

    assert [plan.revision for plan in read(project, connect(sqlite_url))] == ["r1"]
    assert project.url is None


def test_a_url_takes_the_place_of_the_projects_own(sqlite_url, tmp_path):
    """Also one with a percent sign, which an ini file would read otherwise."""
    make_project(tmp_path, sqlite_url, TABLE)
    url = "postgresql://u:p%40ss@h/d"

    assert AlembicProject(tmp_path / "alembic.ini", url=url).url == url


def test_reading_runs_nothing(url, connect, sql, tmp_path):
    """The SQL is there, and so are its statements with their lines."""
    project = make_project(tmp_path, url, TABLE)

    (plan,) = read(project, connect(url))

    assert "CREATE TABLE t" in plan.sql
    assert [statement.tables for statement in plan.statements] == [("t",)]
    assert plan.unread_because == ""
    with pytest.raises(Exception, match=r"(?i)t"):
        sql(url, "SELECT * FROM t")


def test_a_batch_is_read_with_what_its_table_looks_like(sqlite_url, connect, sql, tmp_path):
    """Alembic itself asks for a live database there; the copy is what is judged."""
    sql(sqlite_url, "CREATE TABLE t (id INTEGER PRIMARY KEY, a INTEGER)")
    body = 'with op.batch_alter_table("t") as batch:\n    batch.alter_column("a", type_=sa.Text)'

    (plan,) = read(make_project(tmp_path, sqlite_url, body), connect(sqlite_url))

    assert any("INSERT INTO _alembic_tmp_t" in statement.text for statement in plan.statements)


def test_a_batch_that_brings_its_table_is_left_alone(sqlite_url, connect, tmp_path):
    """What the author says the table looks like is what counts."""
    body = """
    known = sa.Table("t", sa.MetaData(), sa.Column("a", sa.Integer))
    with op.batch_alter_table("t", copy_from=known) as batch:
        batch.alter_column("a", type_=sa.Text)
    """

    (plan,) = read(make_project(tmp_path, sqlite_url, body), connect(sqlite_url))

    assert any("INSERT INTO _alembic_tmp_t" in statement.text for statement in plan.statements)


def test_a_revision_that_asks_the_database_cannot_be_read(sqlite_url, connect, tmp_path):
    """Why is said in a line."""
    body = 'op.get_bind().execute(sa.text("SELECT 1")).scalar_one()'

    (plan,) = read(make_project(tmp_path, sqlite_url, body), connect(sqlite_url))

    assert plan.statements is None
    assert plan.unread_because.startswith("AttributeError: ")


def test_a_part_outside_of_a_transaction_is_known(postgres_url, connect, tmp_path):
    """By `autocommit_block`, which the author writes."""
    body = """
    op.execute("SELECT 1")
    with op.get_context().autocommit_block():
        op.execute("SELECT 2")
    op.execute("SELECT 3")
    """

    (plan,) = read(make_project(tmp_path, postgres_url, body), connect(postgres_url))

    assert [statement.in_transaction for statement in plan.statements] == [True, False, True]


ODD = ["a:b :c ::text", "100% %s %%", '"x":1 """', "back\\slash \\:n", "two\nlines"]


def test_a_revision_is_written_that_sends_what_it_was_given(postgres_url, connect, tmp_path):
    """Whatever stands in the statements: colons are no parameters, percent signs are one each."""
    project = make_project(tmp_path, postgres_url, TABLE)
    give_template(tmp_path)
    statements = ["CREATE TABLE said (words TEXT)"]
    statements += [f"INSERT INTO said SELECT '{words}'::text" for words in ODD]

    path = project.write_revision("odd: one", upgrade=statements, downgrade=["DROP TABLE said"])

    assert path.name.endswith("odd_one.py")
    engine = connect(postgres_url)
    done = run_migrations(engine, AlembicProject(tmp_path / "alembic.ini"), say=lambda _: None)
    assert len(done.applied) == 2
    with engine.connect() as connection:
        assert connection.scalars(text("SELECT words FROM said")).all() == ODD


def test_without_a_template_no_revision_is_written(sqlite_url, tmp_path):
    """Where it should be is said."""
    with pytest.raises(Misuse, match=r"script\.py\.mako"):
        make_project(tmp_path, sqlite_url, TABLE).write_revision("x", upgrade=[], downgrade=[])
