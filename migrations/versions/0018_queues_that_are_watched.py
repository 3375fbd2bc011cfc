"""How full the queues of feedback are, and whether SNS keeps what it cannot deliver.

`levels` hold the last reading of things that rise and fall, by name and label; tallies only grow. `topics.durable` is
true where nothing is lost while we are away: by SQS, or by HTTPS with a retry policy and a dead-letter queue of ours.
"""

from alembic import op

revision = "0018"
down_revision = "0016"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE levels (
  name text NOT NULL,
  label text NOT NULL,
  value bigint NOT NULL,
  at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (name, label)
);

ALTER TABLE levels ENABLE ROW LEVEL SECURITY;

CREATE POLICY pump ON levels TO broker_pump USING (true);

GRANT SELECT, INSERT, UPDATE ON levels TO broker_pump;

ALTER TABLE topics ADD COLUMN durable boolean NOT NULL DEFAULT false
"""


def upgrade() -> None:
    for statement in TABLES.split(";\n\n"):
        op.execute(statement)


def downgrade() -> None:
    op.execute("ALTER TABLE topics DROP COLUMN durable")
    op.execute("DROP TABLE levels")
