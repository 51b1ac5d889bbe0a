"""Two tables without flags, to be adopted."""

import sqlalchemy as sa

FLAGGED = ["clients.deleted_at"]
METADATA = sa.MetaData()
CLIENTS = sa.Table(
    "clients",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("email", sa.String(50)),
    sa.Column("boss_id", sa.ForeignKey("clients.id", ondelete="CASCADE", name="clients_boss")),
    sa.Index("clients_email", "email", unique=True),
    mysql_engine="InnoDB",
)
ORDERS = sa.Table(
    "orders",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("client_id", sa.ForeignKey("clients.id", ondelete="CASCADE", name="orders_client")),
    mysql_engine="InnoDB",
)
