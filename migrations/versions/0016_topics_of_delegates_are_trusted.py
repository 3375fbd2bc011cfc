"""Ingest reads for which configuration set a delegate's topic was made, since it trusts that one alone."""

from alembic import op

revision = "0016"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("GRANT SELECT (configuration_set) ON topics TO broker_ingest")


def downgrade() -> None:
    op.execute("REVOKE SELECT (configuration_set) ON topics FROM broker_ingest")
