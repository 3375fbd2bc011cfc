"""What protects access that was taken back, until when, and under which name the Deny of an identity stands.

`protected_by` is `deny` only while a read has shown the Deny; `protection` says why it is `reads`. A grant without it
ended before there were Denies, or by its date, and is not looked at again. `deny_name` is on paper before SES hears of
it, and never comes back once it was dropped.
"""

from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

UP = """
ALTER TABLE grants
  ADD COLUMN protected_by text CONSTRAINT grants_protected_by_check CHECK (protected_by IN ('deny', 'reads')),
  ADD COLUMN protection text,
  ADD COLUMN sealed_at timestamptz;

GRANT UPDATE (protected_by, protection, sealed_at) ON grants TO broker_api, broker_worker;

ALTER TABLE identities ADD COLUMN deny_name text
"""


def upgrade() -> None:
    for statement in UP.split(";\n\n"):
        op.execute(statement)


def downgrade() -> None:
    op.execute("ALTER TABLE identities DROP COLUMN deny_name")
    op.execute("ALTER TABLE grants DROP COLUMN protected_by, DROP COLUMN protection, DROP COLUMN sealed_at")
