"""Recipients: what became of each, who must not be mailed again, and forgetting them.

Recipients are known by a hash under a key of their own for each owner, delegate and identity, so that the suppressions
of a pair outlast a single grant; an address is stored encrypted, and only where one of the parties may see it. What an
erasure or the end of a retention takes away is blanked in place: rows, ids and counts stay, so that the books balance.
"""

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

DUE = """
  due_at timestamptz,
  claimed_until timestamptz,
  fence bigint NOT NULL DEFAULT 0,
  attempts integer NOT NULL DEFAULT 0
) WITH (fillfactor = 50)"""

TABLES = f"""
CREATE TABLE recipients (
  id uuid PRIMARY KEY,
  owner_id uuid NOT NULL REFERENCES tenants (id),
  delegate_id uuid NOT NULL REFERENCES tenants (id),
  identity_arn text NOT NULL,
  recipient_hash bytea NOT NULL,
  state text NOT NULL CONSTRAINT recipients_state_check
    CHECK (state IN ('sent', 'delivered', 'transient_bounce', 'permanent_bounce', 'complaint')),
  state_at timestamptz NOT NULL,
  sends bigint NOT NULL DEFAULT 0,
  deliveries bigint NOT NULL DEFAULT 0,
  bounces bigint NOT NULL DEFAULT 0,
  complaints bigint NOT NULL DEFAULT 0,
  last_at timestamptz NOT NULL,
  CONSTRAINT recipients_pair_key UNIQUE (owner_id, delegate_id, identity_arn, recipient_hash)
) WITH (fillfactor = 80);

CREATE TABLE suppressions (
  id uuid PRIMARY KEY,
  owner_id uuid NOT NULL REFERENCES tenants (id),
  delegate_id uuid NOT NULL REFERENCES tenants (id),
  grant_id uuid REFERENCES grants (id),
  identity_arn text NOT NULL,
  recipient_hash bytea NOT NULL,
  reason text NOT NULL CONSTRAINT suppressions_reason_check
    CHECK (reason IN ('complaint', 'hard_bounce', 'opt_out')),
  active boolean NOT NULL DEFAULT true,
  guessed boolean NOT NULL DEFAULT false,
  owner_view text CONSTRAINT suppressions_owner_view_check CHECK (owner_view IN ('full', 'hashed', 'none')),
  delegate_view text CONSTRAINT suppressions_delegate_view_check CHECK (delegate_view IN ('full', 'hashed', 'none')),
  grant_hash text,
  address bytea,
  since timestamptz NOT NULL,
  last_at timestamptz NOT NULL,
  last_event_id uuid NOT NULL,
  CONSTRAINT suppressions_pair_key UNIQUE (owner_id, delegate_id, identity_arn, recipient_hash, reason)
);

CREATE INDEX suppressions_owner_id_idx ON suppressions (owner_id, id);

CREATE INDEX suppressions_delegate_id_idx ON suppressions (delegate_id, id);

CREATE INDEX suppressions_grant_id_idx ON suppressions (grant_id, id);

CREATE TABLE suppression_pushes (
  id uuid PRIMARY KEY,
  tenant_id uuid NOT NULL REFERENCES tenants (id),
  connection_id uuid NOT NULL REFERENCES connections (id),
  region text NOT NULL,
  enabled boolean NOT NULL,
  after_id uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
  pushed bigint NOT NULL DEFAULT 0,
  reason text,
  created_at timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT suppression_pushes_connection_id_region_key UNIQUE (connection_id, region),
{DUE};

CREATE INDEX suppression_pushes_due_at_idx ON suppression_pushes (due_at) WHERE due_at IS NOT NULL;

CREATE INDEX suppression_pushes_tenant_id_idx ON suppression_pushes (tenant_id, id);

CREATE TABLE erasures (
  id uuid PRIMARY KEY,
  tenant_id uuid NOT NULL REFERENCES tenants (id),
  recipient_hash bytea NOT NULL,
  address bytea,
  state text NOT NULL CONSTRAINT erasures_state_check CHECK (state IN ('running', 'done')),
  stage text CONSTRAINT erasures_stage_check
    CHECK (stage IN ('owned', 'lent', 'attempts', 'quarantine', 'answers', 'recipients')),
  after_xact bigint NOT NULL DEFAULT 0,
  after_endpoint uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
  after_id uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
  until_xact bigint,
  erased jsonb NOT NULL DEFAULT '{{}}',
  key_id uuid,
  created_at timestamptz NOT NULL DEFAULT now(),
  ended_at timestamptz,
  CONSTRAINT erasures_address_check CHECK ((address IS NULL) = (state = 'done')),
{DUE};

CREATE INDEX erasures_due_at_idx ON erasures (due_at) WHERE due_at IS NOT NULL;

CREATE INDEX erasures_tenant_id_idx ON erasures (tenant_id, id);

CREATE UNIQUE INDEX erasures_running_key ON erasures (tenant_id, recipient_hash) WHERE state = 'running';

CREATE TABLE retentions (
  id uuid PRIMARY KEY REFERENCES grants (id),
  tenant_id uuid NOT NULL REFERENCES tenants (id),
  days integer NOT NULL,
  after_xact bigint NOT NULL DEFAULT 0,
  after_id uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
{DUE};

CREATE INDEX retentions_due_at_idx ON retentions (due_at) WHERE due_at IS NOT NULL
"""

SECURITY = """
ALTER TABLE recipients ENABLE ROW LEVEL SECURITY;

ALTER TABLE suppressions ENABLE ROW LEVEL SECURITY;

ALTER TABLE suppression_pushes ENABLE ROW LEVEL SECURITY;

ALTER TABLE erasures ENABLE ROW LEVEL SECURITY;

ALTER TABLE retentions ENABLE ROW LEVEL SECURITY;

CREATE POLICY parties ON recipients TO broker_api, broker_worker
  USING ((SELECT current_tenant()) IN (owner_id, delegate_id));

CREATE POLICY parties ON suppressions TO broker_api, broker_worker
  USING ((SELECT current_tenant()) IN (owner_id, delegate_id));

CREATE POLICY own ON suppression_pushes TO broker_api, broker_worker USING (tenant_id = (SELECT current_tenant()));

CREATE POLICY own ON erasures TO broker_api, broker_worker USING (tenant_id = (SELECT current_tenant()));

CREATE POLICY own ON retentions TO broker_worker USING (tenant_id = (SELECT current_tenant()));

CREATE POLICY erase ON quarantine TO broker_worker USING (tenant_id = (SELECT current_tenant()));

CREATE POLICY erase ON idempotency_keys TO broker_worker USING (tenant_id = (SELECT current_tenant()));

CREATE POLICY erase ON api_keys FOR SELECT TO broker_worker USING (tenant_id = (SELECT current_tenant()));

GRANT SELECT ON recipients, suppressions TO broker_api;

GRANT SELECT, INSERT, UPDATE, DELETE ON recipients, suppressions TO broker_worker;

GRANT SELECT, INSERT ON suppression_pushes, erasures TO broker_api;

GRANT UPDATE (enabled, after_id, reason, due_at) ON suppression_pushes TO broker_api;

GRANT UPDATE (due_at) ON erasures TO broker_api;

GRANT SELECT ON suppression_pushes, erasures, retentions TO broker_worker;

GRANT UPDATE (after_id, pushed, reason, due_at, claimed_until, attempts) ON suppression_pushes TO broker_worker;

GRANT UPDATE (address, state, stage, after_xact, after_endpoint, after_id, until_xact, erased, ended_at, due_at,
  claimed_until, attempts) ON erasures TO broker_worker;

GRANT UPDATE (after_xact, after_id, due_at, claimed_until, attempts) ON retentions TO broker_worker;

GRANT UPDATE (data, payload, recipient_hash) ON events TO broker_worker;

GRANT UPDATE (answer, error) ON attempts TO broker_worker;

GRANT SELECT, UPDATE (payload) ON quarantine TO broker_worker;

GRANT SELECT (scope, key, tenant_id, body, sealed), UPDATE (body) ON idempotency_keys TO broker_worker;

GRANT SELECT (id, tenant_id) ON api_keys TO broker_worker
"""

# cancel_deliveries: of events of the caller's tenant, for both their parties; four statements for any number, each with
# a snapshot of its own, so that an attempt which was just being written is seen by the last. A delivery that is being
# finished in this moment is left alone (waiting could end in a deadlock) and counted as busy: call again.
# plan_retentions: one row per grant that was ever active, due when it is new or its terms have changed.
FUNCTIONS = """
CREATE FUNCTION cancel_deliveries(ids uuid[], ats timestamptz[])
RETURNS TABLE (busy bigint, cancelled bigint, blanked bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE mine uuid[]; places uuid[];
BEGIN
  SELECT array_agg(DISTINCT e.id), array_agg(DISTINCT p.id) INTO mine, places
  FROM unnest(ids, ats) AS wanted (id, at) JOIN events e ON e.at = wanted.at AND e.id = wanted.id
  LEFT JOIN endpoints p ON p.tenant_id IN (e.owner_id, e.delegate_id)
  WHERE current_tenant() IN (e.owner_id, e.delegate_id);
  WITH free AS MATERIALIZED (
    SELECT d.ctid FROM deliveries d
    WHERE d.endpoint_id = ANY (places) AND d.event_id = ANY (mine) FOR UPDATE SKIP LOCKED
  ), gone AS (
    DELETE FROM deliveries d WHERE d.ctid = ANY (ARRAY(SELECT f.ctid FROM free f)) RETURNING d.tenant_id, d.event_at
  ), counted AS (
    INSERT INTO delivery_deltas AS c (tenant_id, day, cancelled)
    SELECT g.tenant_id, (g.event_at AT TIME ZONE 'UTC')::date, count(*) FROM gone g GROUP BY 1, 2
  )
  SELECT count(*) INTO cancelled FROM gone;
  SELECT count(*) INTO busy FROM deliveries d WHERE d.endpoint_id = ANY (places) AND d.event_id = ANY (mine);
  DELETE FROM dead_deliveries d WHERE d.endpoint_id = ANY (places) AND d.event_id = ANY (mine);
  WITH emptied AS (
    UPDATE attempts a SET answer = NULL
    WHERE a.endpoint_id = ANY (places) AND a.event_id = ANY (mine) AND a.answer IS NOT NULL RETURNING 1
  )
  SELECT count(*) INTO blanked FROM emptied;
  RETURN NEXT;
END
$$;

CREATE FUNCTION plan_retentions(most integer) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
  WITH wanted AS (
    SELECT g.id, g.owner_id, least(greatest(coalesce((g.feedback->>'retention_days')::integer, most), 0), most) AS days
    FROM grants g WHERE g.activated_at IS NOT NULL
  ), planned AS (
    INSERT INTO retentions AS r (id, tenant_id, days, due_at) SELECT id, owner_id, days, now() FROM wanted
    ON CONFLICT (id) DO UPDATE SET days = EXCLUDED.days, after_xact = 0,
      after_id = '00000000-0000-0000-0000-000000000000', due_at = now()
    WHERE r.days <> EXCLUDED.days
    RETURNING 1
  )
  SELECT count(*) FROM planned
$$;

REVOKE ALL ON FUNCTION cancel_deliveries, plan_retentions FROM PUBLIC;

GRANT EXECUTE ON FUNCTION cancel_deliveries, plan_retentions TO broker_worker
"""

# As in 0010, with three more tables.
KINDS_OF_0010 = "('connections', 'identities', 'topics', 'routes', 'replays', 'digests')"
KINDS = (
    "('connections', 'identities', 'topics', 'routes', 'replays', 'digests',"
    " 'erasures', 'retentions', 'suppression_pushes')"
)

CLAIM = """
CREATE OR REPLACE FUNCTION claim_due(kind text, most integer, lease interval, only_ids uuid[])
RETURNS TABLE (id uuid, tenant_id uuid, fence bigint, attempts integer)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
  IF kind NOT IN {kinds} THEN
    RAISE EXCEPTION 'no table of due rows is called %', kind;
  END IF;
  RETURN QUERY EXECUTE format(
    'UPDATE %1$I t SET fence = t.fence + 1, attempts = t.attempts + 1,
       claimed_until = now() + $2, due_at = now() + $2
     FROM (SELECT d.id FROM %1$I d
           WHERE d.due_at <= now() AND (d.claimed_until IS NULL OR d.claimed_until <= now())
             AND ($3 IS NULL OR d.id = ANY ($3))
           ORDER BY d.due_at LIMIT $1 FOR UPDATE SKIP LOCKED) picked
     WHERE t.id = picked.id
     RETURNING t.id, t.tenant_id, t.fence, t.attempts', kind)
  USING most, lease, only_ids;
END
$$
"""

NEXT = """
CREATE OR REPLACE FUNCTION next_due(kind text) RETURNS double precision
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE seconds double precision;
BEGIN
  IF kind NOT IN {kinds} THEN
    RAISE EXCEPTION 'no table of due rows is called %', kind;
  END IF;
  EXECUTE format(
    'SELECT extract(epoch FROM min(greatest(due_at, coalesce(claimed_until, due_at))) - now())
     FROM (SELECT due_at, claimed_until FROM %I WHERE due_at IS NOT NULL ORDER BY due_at LIMIT 20) soonest', kind)
  INTO seconds;
  RETURN seconds;
END
$$
"""

BACK = """
DROP FUNCTION cancel_deliveries, plan_retentions;

REVOKE SELECT (id, tenant_id) ON api_keys FROM broker_worker;

REVOKE SELECT (scope, key, tenant_id, body, sealed), UPDATE (body) ON idempotency_keys FROM broker_worker;

REVOKE SELECT, UPDATE (payload) ON quarantine FROM broker_worker;

REVOKE UPDATE (answer, error) ON attempts FROM broker_worker;

REVOKE UPDATE (data, payload, recipient_hash) ON events FROM broker_worker;

DROP POLICY erase ON api_keys;

DROP POLICY erase ON idempotency_keys;

DROP POLICY erase ON quarantine;

DROP TABLE retentions, erasures, suppression_pushes, suppressions, recipients
"""


def upgrade() -> None:
    for block in (TABLES, SECURITY, FUNCTIONS):
        for statement in block.split(";\n\n"):
            op.execute(statement)
    for function in (CLAIM, NEXT):
        op.execute(function.format(kinds=KINDS))


def downgrade() -> None:
    for function in (CLAIM, NEXT):
        op.execute(function.format(kinds=KINDS_OF_0010))
    for statement in BACK.split(";\n\n"):
        op.execute(statement)
