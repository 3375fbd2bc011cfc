"""What was woken in an order is begun in it; and a grant knows whether its owner applies and removes by hand.

Claims are returned in the order in which they were due. The function is changed as it stands, not written anew: which
tables it knows is the business of other migrations.
"""

from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None

LAST = "RETURNING t.id, t.tenant_id, t.fence, t.attempts"
CHANGES = (
    ("'UPDATE %1$I t SET", "'WITH taken AS (UPDATE %1$I t SET"),
    ("(SELECT d.id FROM %1$I d", "(SELECT d.id, d.due_at FROM %1$I d"),
    (
        f"{LAST}', kind)",
        f"{LAST}, picked.due_at) SELECT id, tenant_id, fence, attempts FROM taken ORDER BY due_at', kind)",  # noqa: S608 - constants
    ),
)

CHANGE = """
DO $do$
DECLARE body text := pg_get_functiondef('claim_due(text, integer, interval, uuid[])'::regprocedure);
BEGIN
  IF strpos(body, $old${old}$old$) = 0 THEN
    RAISE EXCEPTION 'claim_due is not as this migration knows it';
  END IF;
  EXECUTE replace(body, $old${old}$old$, $new${new}$new$);
END
$do$
"""

BY_HAND = """
ALTER TABLE grants ADD COLUMN by_hand boolean NOT NULL DEFAULT false;

UPDATE grants g SET by_hand = true FROM identities i JOIN connections c ON c.id = i.connection_id
  WHERE i.id = g.identity_id AND c.kind = 'manual' AND g.paper IN ('agreed', 'paused', 'revoked', 'relinquished',
  'expired');

GRANT UPDATE (by_hand) ON grants TO broker_worker
"""


def upgrade() -> None:
    for statement in BY_HAND.split(";\n\n"):
        op.execute(statement)
    for old, new in CHANGES:
        _change(old, new)


def downgrade() -> None:
    for old, new in reversed(CHANGES):
        _change(new, old)
    op.execute("ALTER TABLE grants DROP COLUMN by_hand")


def _change(old: str, new: str) -> None:
    op.execute(CHANGE.format(old=old, new=new))
