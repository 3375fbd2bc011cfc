"""No role may hand a row of two parties to somebody else, nor widen an API key; a secret that nobody reads is gone.

Row-level security shows a row to both of its parties and takes it back as long as one of them is left, so that it would
let either put a stranger in the place of the other: what names the parties is not to be updated. `endpoints.secret` has
not been read since 0008, and would stay sealed with a key that is to be dropped.
"""

from alembic import op

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None

PARTIES = "'id', 'tenant_id', 'owner_id', 'delegate_id'"
FIXED = {
    "routes": f"{PARTIES}, 'grant_id', 'identity_id'",
    "recipients": PARTIES,
    "suppressions": PARTIES,
    "breakers": PARTIES,
    "usage_days": PARTIES,
    "usage_windows": PARTIES,
}
ROLES = {"routes": "broker_api, broker_worker"}

# Of the columns that there are now; a later one needs a grant of its own, as it does on `grants`.
NARROW = """
DO $$ BEGIN
  REVOKE UPDATE ON {table} FROM {roles};
  EXECUTE (
    SELECT format('GRANT UPDATE (%s) ON {table} TO {roles}', string_agg(quote_ident(attname), ', ' ORDER BY attnum))
    FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped
      AND attname NOT IN ({fixed}));
END $$
"""


def upgrade() -> None:
    for table, fixed in FIXED.items():
        op.execute(NARROW.format(table=table, fixed=fixed, roles=ROLES.get(table, "broker_worker")))
    op.execute("REVOKE UPDATE ON api_keys FROM broker_api")
    op.execute("GRANT UPDATE (revoked_at) ON api_keys TO broker_api")
    op.execute("UPDATE endpoints SET secret = NULL WHERE secret IS NOT NULL")


def downgrade() -> None:
    for table in FIXED:
        roles = ROLES.get(table, "broker_worker")
        op.execute(f"REVOKE UPDATE ON {table} FROM {roles}")
        op.execute(f"GRANT UPDATE ON {table} TO {roles}")
    op.execute("GRANT UPDATE ON api_keys TO broker_api")
