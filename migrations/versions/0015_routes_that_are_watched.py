"""Routes: since when one is set up, and what was there before by identity, since a child has slots of its own."""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

FORTH = """
ALTER TABLE routes ADD COLUMN configured_at timestamptz;

UPDATE routes SET configured_at = created_at WHERE state IN ('configured', 'live', 'quiet');

UPDATE routes SET previous = jsonb_build_object(i.name, routes.previous)
FROM identities i
WHERE i.id = routes.identity_id AND routes.kind = 'identity_topic' AND routes.previous ?| '{bounce,complaint,delivery}';

GRANT DELETE ON topics TO broker_worker
"""

BACK = """
REVOKE DELETE ON topics FROM broker_worker;

UPDATE routes SET previous = routes.previous -> i.name
FROM identities i
WHERE i.id = routes.identity_id AND routes.kind = 'identity_topic' AND routes.previous ? i.name;

ALTER TABLE routes DROP COLUMN configured_at
"""


def upgrade() -> None:
    for statement in FORTH.split(";\n\n"):
        op.execute(statement)


def downgrade() -> None:
    for statement in BACK.split(";\n\n"):
        op.execute(statement)
