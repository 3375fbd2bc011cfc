"""Ingest reads when a grant was suspended and resumed, since mail sent in between is another grant's."""

from alembic import op

revision = "0025"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("GRANT SELECT (suspended_at, resumed_at) ON grants TO broker_ingest")


def downgrade() -> None:
    op.execute("REVOKE SELECT (suspended_at, resumed_at) ON grants FROM broker_ingest")
