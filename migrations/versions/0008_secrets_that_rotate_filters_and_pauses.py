"""Secrets in a table of their own, so that two sign while one replaces the other; narrower endpoints; pauses.

This is the expanding step: `endpoints.secret` may now be empty and is no longer read; a later migration drops it.
`headers` of an endpoint are sealed, since they often hold tokens; their names are shown and stand beside them.
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

# A secret that was there gets the id of its endpoint: unique, ordered by time, and there is no UUIDv7 in SQL.
TABLES = """
CREATE TABLE endpoint_secrets (
  id uuid PRIMARY KEY,
  tenant_id uuid NOT NULL,
  endpoint_id uuid NOT NULL,
  sealed bytea NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz,
  last_used_at timestamptz,
  CONSTRAINT endpoint_secrets_tenant_id_fkey
    FOREIGN KEY (tenant_id, endpoint_id) REFERENCES endpoints (tenant_id, id)
);

CREATE INDEX endpoint_secrets_endpoint_id_idx ON endpoint_secrets (endpoint_id);

CREATE UNIQUE INDEX endpoint_secrets_current_key ON endpoint_secrets (endpoint_id) WHERE expires_at IS NULL;

INSERT INTO endpoint_secrets (id, tenant_id, endpoint_id, sealed, created_at)
SELECT id, tenant_id, id, secret, created_at FROM endpoints WHERE state <> 'deleted';

ALTER TABLE endpoints ALTER COLUMN secret DROP NOT NULL, ADD COLUMN grant_ids uuid[],
  ADD COLUMN identity_arns text[], ADD COLUMN headers bytea,
  ADD COLUMN header_names text[] NOT NULL DEFAULT '{}', DROP CONSTRAINT endpoints_state_check,
  ADD CONSTRAINT endpoints_state_check CHECK (state IN ('active', 'paused', 'disabled', 'deleted'))
"""

SECURITY = """
ALTER TABLE endpoint_secrets ENABLE ROW LEVEL SECURITY;

CREATE POLICY own ON endpoint_secrets TO broker_api, broker_worker USING (tenant_id = (SELECT current_tenant()));

CREATE POLICY pump ON endpoint_secrets TO broker_pump USING (true);

GRANT SELECT, INSERT, DELETE ON endpoint_secrets TO broker_api, broker_worker;

GRANT UPDATE (expires_at) ON endpoint_secrets TO broker_api, broker_worker;

GRANT SELECT ON endpoint_secrets TO broker_pump;

GRANT UPDATE (last_used_at) ON endpoint_secrets TO broker_pump
"""

# As in 0006, but for who is asked: each filter that is set must match, so what has no grant and no identity goes to
# endpoints without such filters only. A paused endpoint's lane is woken too: not to wake it would lose the wake-up when
# it is resumed in the same moment.
FAN_OUT = """
CREATE OR REPLACE FUNCTION fan_out(ids uuid[], ats timestamptz[]) RETURNS TABLE (endpoint_id uuid)
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
  WITH made AS (
    INSERT INTO deliveries (endpoint_id, event_id, event_at, tenant_id, priority)
    SELECT p.id, e.id, e.at, p.tenant_id, event_priority(e.type)
    FROM unnest(ids, ats) AS wanted (id, at)
    JOIN events e ON e.at = wanted.at AND e.id = wanted.id
    CROSS JOIN LATERAL (VALUES (e.owner_id, e.owner_view), (e.delegate_id, e.delegate_view)) AS party (tenant_id, view)
    JOIN endpoints p ON p.tenant_id = party.tenant_id AND p.state IN ('active', 'paused')
      AND (p.event_types IS NULL OR e.type = ANY (p.event_types)
        OR split_part(e.type, '.', 1) || '.*' = ANY (p.event_types))
      AND (p.grant_ids IS NULL OR e.grant_id = ANY (p.grant_ids))
      AND (p.identity_arns IS NULL OR e.data->>'identity' = ANY (p.identity_arns))
    WHERE party.view IS NOT NULL
    ON CONFLICT DO NOTHING
    RETURNING deliveries.endpoint_id
  ), touched AS (
    -- Always in the order of ids: two fan-outs that wake the same lanes must not wait for each other in a ring.
    SELECT lanes.id FROM lanes WHERE lanes.id IN (SELECT made.endpoint_id FROM made) ORDER BY lanes.id FOR UPDATE
  ), woken AS (
    UPDATE lanes SET due_at = now() FROM touched WHERE lanes.id = touched.id
  )
  SELECT touched.id FROM touched
$$
"""

FAN_OUT_OF_0006 = """
CREATE OR REPLACE FUNCTION fan_out(ids uuid[], ats timestamptz[]) RETURNS TABLE (endpoint_id uuid)
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
  WITH made AS (
    INSERT INTO deliveries (endpoint_id, event_id, event_at, tenant_id, priority)
    SELECT p.id, e.id, e.at, p.tenant_id, event_priority(e.type)
    FROM unnest(ids, ats) AS wanted (id, at)
    JOIN events e ON e.at = wanted.at AND e.id = wanted.id
    CROSS JOIN LATERAL (VALUES (e.owner_id, e.owner_view), (e.delegate_id, e.delegate_view)) AS party (tenant_id, view)
    JOIN endpoints p ON p.tenant_id = party.tenant_id AND p.state = 'active'
      AND (p.event_types IS NULL OR e.type = ANY (p.event_types)
        OR split_part(e.type, '.', 1) || '.*' = ANY (p.event_types))
    WHERE party.view IS NOT NULL
    ON CONFLICT DO NOTHING
    RETURNING deliveries.endpoint_id
  ), touched AS (
    -- Always in the order of ids: two fan-outs that wake the same lanes must not wait for each other in a ring.
    SELECT lanes.id FROM lanes WHERE lanes.id IN (SELECT made.endpoint_id FROM made) ORDER BY lanes.id FOR UPDATE
  ), woken AS (
    UPDATE lanes SET due_at = now() FROM touched WHERE lanes.id = touched.id
  )
  SELECT touched.id FROM touched
$$
"""

# A paused endpoint becomes a disabled one, which keeps what is pending. Without a secret nothing could be signed.
BACK = """
UPDATE endpoints SET secret = coalesce(
  (SELECT s.sealed FROM endpoint_secrets s WHERE s.endpoint_id = endpoints.id AND s.expires_at IS NULL), secret, '');

UPDATE endpoints SET state = 'disabled', reason = 'It was paused.' WHERE state = 'paused';

DROP TABLE endpoint_secrets;

ALTER TABLE endpoints ALTER COLUMN secret SET NOT NULL, DROP COLUMN grant_ids, DROP COLUMN identity_arns,
  DROP COLUMN headers, DROP COLUMN header_names, DROP CONSTRAINT endpoints_state_check,
  ADD CONSTRAINT endpoints_state_check CHECK (state IN ('active', 'disabled', 'deleted'))
"""


def upgrade() -> None:
    for block in (TABLES, SECURITY):
        for statement in block.split(";\n\n"):
            op.execute(statement)
    op.execute(FAN_OUT)


def downgrade() -> None:
    op.execute(FAN_OUT_OF_0006)
    for statement in BACK.split(";\n\n"):
        op.execute(statement)
