"""What a worker needs to send the Deny that a revoke has named, told with the claim and before any paper is locked.

A definer function: it is asked for a claimed row, outside of its tenant's transaction. Volatile, so that it sees what
the claim in the same statement saw. At most 18 policies are there (of the 20 that SES takes): where there are more, the
places that are left are the removal's.
"""

from alembic import op

revision = "0041"
down_revision = "0037"
branch_labels = None
depends_on = None

FUNCTION = """
CREATE FUNCTION deny_ahead(wanted uuid) RETURNS TABLE (
  tenant_id uuid, account_id text, role_arn text, external_id text, region text, identity text, name text, document text
) LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp AS $$
  SELECT i.tenant_id, c.account_id, c.role_arn, c.external_id, i.region, i.name, d.name, d.document
  FROM identities i
  JOIN connections c ON c.id = i.connection_id
  JOIN policy_documents d ON d.identity_id = i.id AND d.name = i.deny_name AND d.ours
  WHERE i.id = wanted AND i.claimed_until > now() AND i.removed_at IS NULL
    AND c.role_arn IS NOT NULL AND c.state <> 'removed'
    AND NOT i.policies ? i.deny_name AND (SELECT count(*) FROM jsonb_object_keys(i.policies)) <= 18
  ORDER BY d.id LIMIT 1
$$
"""


def upgrade() -> None:
    op.execute(FUNCTION)
    op.execute("REVOKE ALL ON FUNCTION deny_ahead FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION deny_ahead TO broker_worker")


def downgrade() -> None:
    op.execute("DROP FUNCTION deny_ahead")
