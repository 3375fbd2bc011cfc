"""Ingest reads for which configuration set a delegate's topic was made, since it trusts that one alone.

A connection says what its role is for: a delegate's role has other rights than an owner's.
"""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("GRANT SELECT (configuration_set) ON topics TO broker_ingest")
    op.execute(
        "ALTER TABLE connections ADD COLUMN roles text[] NOT NULL DEFAULT '{owner}' CONSTRAINT connections_roles_check"
        " CHECK (roles <@ ARRAY['owner', 'delegate'] AND cardinality(roles) > 0)"
    )


def downgrade() -> None:
    op.execute("ALTER TABLE connections DROP COLUMN roles")
    op.execute("REVOKE SELECT (configuration_set) ON topics FROM broker_ingest")
