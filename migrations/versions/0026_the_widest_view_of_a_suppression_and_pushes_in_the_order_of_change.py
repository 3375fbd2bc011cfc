"""A suppression keeps the widest view that was given, and is pushed when it changes, too.

`suppressions.vouched`: a topic of the broker's said it. `suppressions.stamp`: a new id whenever there is something new
to push, along which pushes go. Times that are said to be in the future are taken for now.
"""

from alembic import op

revision = "0026"
down_revision = "0022"
branch_labels = None
depends_on = None

UP = """
ALTER TABLE suppressions ADD COLUMN vouched boolean NOT NULL DEFAULT true, ADD COLUMN stamp uuid;

UPDATE suppressions SET stamp = id, last_at = least(last_at, now()), since = least(since, now());

UPDATE recipients SET state_at = least(state_at, now()), last_at = least(last_at, now()) WHERE last_at > now();

ALTER TABLE suppressions ALTER COLUMN stamp SET NOT NULL;

CREATE INDEX suppressions_delegate_id_stamp_idx ON suppressions (delegate_id, stamp)
"""

DOWN = """
DROP INDEX suppressions_delegate_id_stamp_idx;

ALTER TABLE suppressions DROP COLUMN stamp, DROP COLUMN vouched
"""


def upgrade() -> None:
    for statement in UP.split(";\n\n"):
        op.execute(statement)


def downgrade() -> None:
    for statement in DOWN.split(";\n\n"):
        op.execute(statement)
