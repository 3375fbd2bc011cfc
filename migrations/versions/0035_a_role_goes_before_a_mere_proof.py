"""The worker frees an account whose tenant only proved it, for the tenant whose role in it was found good."""

from alembic import op

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("GRANT DELETE ON accounts TO broker_worker")


def downgrade() -> None:
    op.execute("REVOKE DELETE ON accounts FROM broker_worker")
