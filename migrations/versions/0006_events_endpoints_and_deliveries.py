"""Events by day, the webhooks that must get them, and what is still to be delivered.

`deliveries` hold only what is pending; success deletes. `events` and `attempts` are partitioned by day so that an old
day can be dropped at once; a DEFAULT partition catches what falls outside. `events.xact` orders the cursor feed: ids
are made before the commit, so in their order a late commit would be skipped by a reader that is already past it.
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE endpoints (
  id uuid PRIMARY KEY,
  tenant_id uuid NOT NULL REFERENCES tenants (id),
  url text NOT NULL,
  description text,
  event_types text[],
  secret bytea NOT NULL,
  state text NOT NULL CONSTRAINT endpoints_state_check CHECK (state IN ('active', 'disabled', 'deleted')),
  reason text,
  created_at timestamptz NOT NULL DEFAULT now(),
  failing_since timestamptz,
  CONSTRAINT endpoints_tenant_id_id_key UNIQUE (tenant_id, id)
);

CREATE TABLE lanes (
  id uuid PRIMARY KEY REFERENCES endpoints (id),
  tenant_id uuid NOT NULL REFERENCES tenants (id),
  due_at timestamptz,
  claimed_until timestamptz,
  fence bigint NOT NULL DEFAULT 0,
  attempts integer NOT NULL DEFAULT 0,
  quiet_until timestamptz
) WITH (fillfactor = 50);

CREATE INDEX lanes_due_at_idx ON lanes (due_at) WHERE due_at IS NOT NULL;

CREATE TABLE events (
  id uuid NOT NULL,
  at timestamptz NOT NULL,
  type text NOT NULL,
  owner_id uuid,
  delegate_id uuid,
  grant_id uuid,
  source text NOT NULL,
  owner_view text CONSTRAINT events_owner_view_check CHECK (owner_view IN ('full', 'hashed', 'none')),
  delegate_view text CONSTRAINT events_delegate_view_check CHECK (delegate_view IN ('full', 'hashed', 'none')),
  recipient_hash text,
  data jsonb NOT NULL,
  payload text,
  created_at timestamptz NOT NULL DEFAULT now(),
  xact bigint NOT NULL DEFAULT (pg_current_xact_id()::text::bigint),
  PRIMARY KEY (at, id),
  CONSTRAINT events_party_check CHECK (owner_id IS NOT NULL OR delegate_id IS NOT NULL)
) PARTITION BY RANGE (at);

CREATE TABLE events_default PARTITION OF events DEFAULT;

CREATE INDEX events_owner_id_idx ON events (owner_id, xact, id);

CREATE INDEX events_delegate_id_idx ON events (delegate_id, xact, id);

CREATE TABLE deliveries (
  endpoint_id uuid NOT NULL,
  event_id uuid NOT NULL,
  event_at timestamptz NOT NULL,
  tenant_id uuid NOT NULL,
  priority smallint NOT NULL,
  next_at timestamptz NOT NULL DEFAULT now(),
  attempts smallint NOT NULL DEFAULT 0,
  PRIMARY KEY (endpoint_id, event_id),
  CONSTRAINT deliveries_tenant_id_fkey FOREIGN KEY (tenant_id, endpoint_id) REFERENCES endpoints (tenant_id, id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0);

CREATE INDEX deliveries_endpoint_id_priority_next_at_event_id_idx
  ON deliveries (endpoint_id, priority, next_at, event_id);

CREATE TABLE dead_deliveries (
  endpoint_id uuid NOT NULL,
  event_id uuid NOT NULL,
  event_at timestamptz NOT NULL,
  tenant_id uuid NOT NULL,
  attempts smallint NOT NULL,
  reason text NOT NULL,
  died_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (endpoint_id, event_id),
  CONSTRAINT dead_deliveries_tenant_id_fkey
    FOREIGN KEY (tenant_id, endpoint_id) REFERENCES endpoints (tenant_id, id)
);

CREATE TABLE attempts (
  id uuid NOT NULL,
  at timestamptz NOT NULL,
  tenant_id uuid NOT NULL,
  endpoint_id uuid NOT NULL,
  event_id uuid NOT NULL,
  event_at timestamptz NOT NULL,
  number smallint NOT NULL,
  status smallint,
  latency_ms integer NOT NULL,
  error text,
  answer text,
  PRIMARY KEY (at, id)
) PARTITION BY RANGE (at);

CREATE TABLE attempts_default PARTITION OF attempts DEFAULT;

CREATE INDEX attempts_endpoint_id_event_id_idx ON attempts (endpoint_id, event_id, at)
"""

SECURITY = """
ALTER TABLE endpoints ENABLE ROW LEVEL SECURITY;

ALTER TABLE lanes ENABLE ROW LEVEL SECURITY;

ALTER TABLE events ENABLE ROW LEVEL SECURITY;

ALTER TABLE events_default ENABLE ROW LEVEL SECURITY;

ALTER TABLE deliveries ENABLE ROW LEVEL SECURITY;

ALTER TABLE dead_deliveries ENABLE ROW LEVEL SECURITY;

ALTER TABLE attempts ENABLE ROW LEVEL SECURITY;

ALTER TABLE attempts_default ENABLE ROW LEVEL SECURITY;

CREATE POLICY own ON endpoints TO broker_api, broker_worker USING (tenant_id = (SELECT current_tenant()));

CREATE POLICY own ON lanes TO broker_api, broker_worker USING (tenant_id = (SELECT current_tenant()));

CREATE POLICY own ON deliveries TO broker_api, broker_worker USING (tenant_id = (SELECT current_tenant()));

CREATE POLICY own ON dead_deliveries TO broker_api, broker_worker USING (tenant_id = (SELECT current_tenant()));

CREATE POLICY own ON attempts TO broker_api, broker_worker USING (tenant_id = (SELECT current_tenant()));

CREATE POLICY parties ON events TO broker_api, broker_worker
  USING ((SELECT current_tenant()) IN (owner_id, delegate_id));

CREATE POLICY pump ON endpoints TO broker_pump USING (true);

CREATE POLICY pump ON lanes TO broker_pump USING (true);

CREATE POLICY pump ON events TO broker_pump USING (true);

CREATE POLICY pump ON deliveries TO broker_pump USING (true);

CREATE POLICY pump ON dead_deliveries TO broker_pump USING (true);

CREATE POLICY pump ON attempts TO broker_pump USING (true);

CREATE POLICY pump ON audit FOR INSERT TO broker_pump WITH CHECK (tenant_id = (SELECT current_tenant()));

CREATE POLICY ingest ON events TO broker_ingest USING (true);

CREATE POLICY ingest ON deliveries TO broker_ingest USING (true);

GRANT SELECT, INSERT, UPDATE ON endpoints, lanes TO broker_api, broker_worker;

GRANT SELECT, INSERT ON events TO broker_api, broker_worker, broker_ingest;

GRANT SELECT, INSERT, UPDATE, DELETE ON deliveries TO broker_api, broker_worker;

GRANT SELECT, INSERT, DELETE ON dead_deliveries TO broker_api, broker_worker;

GRANT SELECT ON attempts TO broker_api, broker_worker;

GRANT SELECT, INSERT ON deliveries TO broker_ingest;

GRANT SELECT ON endpoints, lanes TO broker_pump;

GRANT UPDATE (state, reason, failing_since) ON endpoints TO broker_pump;

GRANT UPDATE (due_at, claimed_until, attempts, quiet_until) ON lanes TO broker_pump;

GRANT SELECT, INSERT ON events TO broker_pump;

GRANT INSERT ON audit TO broker_pump;

GRANT SELECT, DELETE ON deliveries TO broker_pump;

GRANT UPDATE (attempts, next_at) ON deliveries TO broker_pump;

GRANT SELECT, INSERT ON dead_deliveries, attempts TO broker_pump
"""

# fan_out: one statement for any number of events; rows out = endpoints touched. It crosses to the other party's
# endpoints, and returns their ids only, for the bell.
FUNCTIONS = """
CREATE FUNCTION event_priority(type text) RETURNS smallint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE
    WHEN type IN ('email.complained', 'email.bounced') THEN 0
    WHEN type NOT LIKE 'email.%' THEN 1
    WHEN type IN ('email.opened', 'email.clicked') THEN 3
    ELSE 2 END::smallint
$$;

CREATE FUNCTION fan_out(ids uuid[], ats timestamptz[]) RETURNS TABLE (endpoint_id uuid)
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
$$;

CREATE FUNCTION make_days(first date, days integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE parent text; day date; made integer := 0;
BEGIN
  FOREACH parent IN ARRAY ARRAY['events', 'attempts', 'event_keys'] LOOP
    CONTINUE WHEN to_regclass(parent) IS NULL;
    FOR day IN SELECT first + n FROM generate_series(0, days - 1) n LOOP
      CONTINUE WHEN to_regclass(format('%s_%s', parent, to_char(day, 'YYYYMMDD'))) IS NOT NULL;
      BEGIN
        EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)',
          format('%s_%s', parent, to_char(day, 'YYYYMMDD')), parent, day, day + 1);
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', format('%s_%s', parent, to_char(day, 'YYYYMMDD')));
        made := made + 1;
      EXCEPTION WHEN duplicate_table OR check_violation THEN NULL;
      END;
    END LOOP;
  END LOOP;
  RETURN made;
END
$$;

REVOKE ALL ON FUNCTION fan_out, make_days FROM PUBLIC;

GRANT EXECUTE ON FUNCTION fan_out TO broker_api, broker_worker, broker_ingest, broker_pump;

GRANT EXECUTE ON FUNCTION make_days TO broker_worker, broker_pump
"""


def upgrade() -> None:
    for block in (TABLES, SECURITY, FUNCTIONS):
        for statement in block.split(";\n\n"):
            op.execute(statement)


def downgrade() -> None:
    op.execute("DROP POLICY pump ON audit")
    op.execute("REVOKE INSERT ON audit FROM broker_pump")
    op.execute("DROP FUNCTION fan_out, make_days, event_priority")
    op.execute("DROP TABLE attempts, dead_deliveries, deliveries, events, lanes, endpoints")
