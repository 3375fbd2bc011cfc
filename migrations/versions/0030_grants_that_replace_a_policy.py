"""A grant may take the place of a policy that somebody else wrote; what became of that policy is kept with it."""

from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("ALTER TABLE grants ADD COLUMN replaces jsonb")
    # Which policy it is, is said when the grant is proposed and never again; only the sync writes what became of it.
    op.execute("GRANT UPDATE (replaces) ON grants TO broker_worker")


def downgrade() -> None:
    op.execute("ALTER TABLE grants DROP COLUMN replaces")
