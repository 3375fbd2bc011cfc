"""Lanes are held by resident pumps, and every delivery is counted in and out.

A lane is no longer a due row of its own: what is due are its deliveries, and the lane says which pump holds it. Storing
events therefore writes no lane, so that ingest and delivery never wait for each other, and what a pump writes to a lane
touches no index. `due_at` and `attempts` of lanes are no longer read; a later migration drops them. Delivery workers of
the version before find nothing to do under this schema: restart them; nothing is lost meanwhile.

`delivery_deltas` count in the transaction that changes deliveries: created = delivered + pending + dead + cancelled
must hold for each tenant and day at any moment (I1). Rows are only added, so that no two batches wait for one counter;
housekeeping sums them up in `delivery_counts`.
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

TABLES = """
ALTER TABLE lanes ADD COLUMN owner integer;

DROP INDEX lanes_due_at_idx;

UPDATE lanes SET claimed_until = NULL, due_at = NULL;

CREATE TABLE delivery_deltas (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant_id uuid NOT NULL,
  day date NOT NULL,
  created integer NOT NULL DEFAULT 0,
  delivered integer NOT NULL DEFAULT 0,
  dead integer NOT NULL DEFAULT 0,
  cancelled integer NOT NULL DEFAULT 0
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0);

CREATE INDEX delivery_deltas_tenant_id_idx ON delivery_deltas (tenant_id, day);

CREATE TABLE delivery_counts (
  tenant_id uuid NOT NULL REFERENCES tenants (id),
  day date NOT NULL,
  created bigint NOT NULL DEFAULT 0,
  delivered bigint NOT NULL DEFAULT 0,
  dead bigint NOT NULL DEFAULT 0,
  cancelled bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (tenant_id, day)
)
"""

SECURITY = """
ALTER TABLE delivery_deltas ENABLE ROW LEVEL SECURITY;

ALTER TABLE delivery_counts ENABLE ROW LEVEL SECURITY;

CREATE POLICY own ON delivery_deltas TO broker_api, broker_worker USING (tenant_id = (SELECT current_tenant()));

CREATE POLICY own ON delivery_counts TO broker_api, broker_worker USING (tenant_id = (SELECT current_tenant()));

CREATE POLICY pump ON delivery_deltas TO broker_pump USING (true);

CREATE POLICY pump ON delivery_counts TO broker_pump USING (true);

GRANT SELECT, INSERT ON delivery_deltas TO broker_api, broker_worker;

GRANT SELECT ON delivery_counts TO broker_api, broker_worker;

GRANT SELECT, INSERT, DELETE ON delivery_deltas TO broker_pump;

GRANT SELECT, INSERT, UPDATE ON delivery_counts TO broker_pump;

GRANT UPDATE (owner, fence) ON lanes TO broker_pump
"""

# What was there before the counters began is counted in, as created and, where it is dead, as dead.
COUNT_IN = """
INSERT INTO delivery_counts (tenant_id, day, created, dead)
SELECT tenant_id, (event_at AT TIME ZONE 'UTC')::date, count(*), count(*) FILTER (WHERE is_dead)
FROM (SELECT tenant_id, event_at, false AS is_dead FROM deliveries
  UNION ALL SELECT tenant_id, event_at, true FROM dead_deliveries) was
GROUP BY 1, 2
"""

# As in 0008, but that it writes no lane, and counts. The endpoints touched are for the bell only. Its plan is made once
# in a session, maybe while the tables are empty: so it is done in the order in which it is written, by index, and
# events are asked for in the order of their key, which no other index of theirs has.
FAN_OUT = """
CREATE OR REPLACE FUNCTION fan_out(ids uuid[], ats timestamptz[]) RETURNS TABLE (endpoint_id uuid)
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
SET join_collapse_limit = 1 SET from_collapse_limit = 1 SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_material = off SET enable_sort = off
SET enable_incremental_sort = off AS $$
  WITH made AS (
    INSERT INTO deliveries (endpoint_id, event_id, event_at, tenant_id, priority)
    SELECT p.id, e.id, e.at, p.tenant_id, event_priority(e.type)
    FROM unnest(ids, ats) AS wanted (id, at)
    CROSS JOIN LATERAL (
      SELECT * FROM events WHERE events.at = wanted.at AND events.id >= wanted.id AND events.id <= wanted.id
      ORDER BY events.at, events.id LIMIT 1
    ) e
    CROSS JOIN LATERAL (VALUES (e.owner_id, e.owner_view), (e.delegate_id, e.delegate_view)) AS party (tenant_id, view)
    JOIN endpoints p ON p.tenant_id = party.tenant_id AND p.state IN ('active', 'paused')
      AND (p.event_types IS NULL OR e.type = ANY (p.event_types)
        OR split_part(e.type, '.', 1) || '.*' = ANY (p.event_types))
      AND (p.grant_ids IS NULL OR e.grant_id = ANY (p.grant_ids))
      AND (p.identity_arns IS NULL OR e.data->>'identity' = ANY (p.identity_arns))
    WHERE party.view IS NOT NULL
    ON CONFLICT DO NOTHING
    RETURNING deliveries.endpoint_id, deliveries.tenant_id, deliveries.event_at
  ), counted AS (
    INSERT INTO delivery_deltas (tenant_id, day, created)
    SELECT made.tenant_id, (made.event_at AT TIME ZONE 'UTC')::date, count(*) FROM made GROUP BY 1, 2
  )
  SELECT DISTINCT made.endpoint_id FROM made
$$
"""

FAN_OUT_OF_0008 = """
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
    SELECT lanes.id FROM lanes WHERE lanes.id IN (SELECT made.endpoint_id FROM made) ORDER BY lanes.id FOR UPDATE
  ), woken AS (
    UPDATE lanes SET due_at = now() FROM touched WHERE lanes.id = touched.id
  )
  SELECT touched.id FROM touched
$$
"""

BACK = """
DROP TABLE delivery_counts, delivery_deltas;

ALTER TABLE lanes DROP COLUMN owner;

REVOKE UPDATE (fence) ON lanes FROM broker_pump;

CREATE INDEX lanes_due_at_idx ON lanes (due_at) WHERE due_at IS NOT NULL;

UPDATE lanes SET claimed_until = NULL, due_at = now()
"""


def upgrade() -> None:
    for block in (TABLES, SECURITY):
        for statement in block.split(";\n\n"):
            op.execute(statement)
    op.execute(COUNT_IN)
    op.execute(FAN_OUT)


def downgrade() -> None:
    op.execute(FAN_OUT_OF_0008)
    for statement in BACK.split(";\n\n"):
        op.execute(statement)
