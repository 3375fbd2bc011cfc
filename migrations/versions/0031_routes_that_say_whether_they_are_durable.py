"""Routes say whether feedback can be lost while the broker is away.

`routes.durable`: of all topics that the route comes through, as the last check found them; null where nothing comes to
us by it, or where that was not looked at yet. A topic may be seen by its tenant alone, a route by both parties.
"""

from alembic import op

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE routes ADD COLUMN durable boolean")


def downgrade() -> None:
    op.execute("ALTER TABLE routes DROP COLUMN durable")
