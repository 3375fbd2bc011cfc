"""Several grants share a slot, and whoever agrees to one can see whether there is room for it.

`grants.size`: bytes in a policy; the next sync fills it in where it is empty, and until then the terms' own length is
near enough. `lock_identity`: two approvals at once do not both take the last place. `identity_ground`: what takes room
on an identity, also where it is the owner's and the approval the delegate's; of the other grants it tells no more.
"""

from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

UP = """
ALTER TABLE grants DROP CONSTRAINT grants_identity_id_slot_key, ADD COLUMN size integer;

GRANT UPDATE (size) ON grants TO broker_api, broker_worker;

CREATE FUNCTION lock_identity(wanted uuid) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
  SELECT FROM identities i WHERE i.id = wanted AND (i.tenant_id = current_tenant() OR EXISTS (
    SELECT FROM grants WHERE identity_id = wanted AND current_tenant() IN (owner_id, delegate_id)))
  FOR NO KEY UPDATE
$$;

CREATE FUNCTION identity_ground(wanted uuid)
RETURNS TABLE (by_hand boolean, policies text[], highest integer, grant_id uuid, slot integer, size integer)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
  SELECT c.kind = 'manual', ARRAY(SELECT jsonb_object_keys(i.policies)),
    coalesce((SELECT max(a.slot) FROM grants a WHERE a.identity_id = i.id), 0), g.id, g.slot,
    coalesce(g.size, octet_length(g.terms::text))
  FROM identities i
  JOIN connections c ON c.id = i.connection_id
  LEFT JOIN grants g ON g.identity_id = i.id AND g.paper IN ('agreed', 'paused') AND g.expires_at > now()
  WHERE i.id = wanted
  ORDER BY g.id
$$;

REVOKE ALL ON FUNCTION lock_identity, identity_ground FROM PUBLIC;

GRANT EXECUTE ON FUNCTION lock_identity, identity_ground TO broker_api, broker_worker
"""


def upgrade() -> None:
    for statement in UP.split(";\n\n"):
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP FUNCTION lock_identity, identity_ground")
    # Whoever shares a slot gets one of its own from the next sync, as before.
    op.execute(
        "UPDATE grants SET slot = NULL WHERE EXISTS (SELECT FROM grants other"
        " WHERE other.identity_id = grants.identity_id AND other.slot = grants.slot AND other.id < grants.id)"
    )
    op.execute(
        "ALTER TABLE grants DROP COLUMN size, ADD CONSTRAINT grants_identity_id_slot_key UNIQUE (identity_id, slot)"
    )
