"""What is claimed is returned in the order in which it was due: what was woken in an order is begun in it.

The function is changed as it stands, not written anew: which tables it knows is the business of other migrations.
"""

from alembic import op

revision = "0029"
down_revision = "0026"
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


def upgrade() -> None:
    for old, new in CHANGES:
        _change(old, new)


def downgrade() -> None:
    for old, new in reversed(CHANGES):
        _change(new, old)


def _change(old: str, new: str) -> None:
    op.execute(CHANGE.format(old=old, new=new))
