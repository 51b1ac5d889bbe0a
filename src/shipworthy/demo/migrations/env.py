"""What Alembic runs to apply the revisions: on the connection it is given, in one transaction."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    # One transaction for all; the caller began it.
    transactional_ddl=True,
)

with context.begin_transaction():
    context.run_migrations()
