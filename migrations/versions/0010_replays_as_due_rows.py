"""Jobs that send a stretch of events again, as due rows, and when an endpoint was disabled.

A job moves a bounded number of rows a second into `deliveries` and keeps its position in its own row, in the same
transaction. Events are walked in the order of (xact, id), for which each party has an index already: by time alone, a
walk would read the events of all tenants. `replay_id` tells which job asked for a delivery; null for all others, it
takes no room. `disabled_xact` is where the events begin that an endpoint missed: those whose transaction had not ended
when it was disabled may have been fanned out without it.
"""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE replays (
  id uuid PRIMARY KEY,
  tenant_id uuid NOT NULL,
  endpoint_id uuid NOT NULL,
  kind text NOT NULL CONSTRAINT replays_kind_check CHECK (kind IN ('range', 'failed', 'catch_up')),
  state text NOT NULL CONSTRAINT replays_state_check CHECK (state IN ('running', 'done', 'cancelled')),
  reason text,
  rate integer NOT NULL CONSTRAINT replays_rate_check CHECK (rate BETWEEN 1 AND 500),
  from_at timestamptz NOT NULL,
  until_at timestamptz NOT NULL,
  after_xact bigint NOT NULL DEFAULT 0,
  after_id uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
  until_xact bigint,
  total bigint,
  queued bigint NOT NULL DEFAULT 0,
  key_id uuid,
  created_at timestamptz NOT NULL DEFAULT now(),
  ended_at timestamptz,
  due_at timestamptz,
  claimed_until timestamptz,
  fence bigint NOT NULL DEFAULT 0,
  attempts integer NOT NULL DEFAULT 0,
  CONSTRAINT replays_tenant_id_fkey FOREIGN KEY (tenant_id, endpoint_id) REFERENCES endpoints (tenant_id, id)
) WITH (fillfactor = 50);

CREATE INDEX replays_due_at_idx ON replays (due_at) WHERE due_at IS NOT NULL;

CREATE INDEX replays_tenant_id_idx ON replays (tenant_id, id);

CREATE UNIQUE INDEX replays_running_key ON replays (endpoint_id) WHERE state = 'running' AND kind <> 'catch_up';

CREATE UNIQUE INDEX replays_catching_up_key ON replays (endpoint_id) WHERE state = 'running' AND kind = 'catch_up';

ALTER TABLE endpoints ADD COLUMN disabled_at timestamptz, ADD COLUMN disabled_xact bigint;

UPDATE endpoints SET disabled_xact = 0, disabled_at = coalesce(
  (SELECT max(a.at) FROM audit a WHERE a.subject_id = endpoints.id AND a.action = 'endpoint.disabled'), now())
WHERE state = 'disabled';

ALTER TABLE deliveries ADD COLUMN replay_id uuid;

ALTER TABLE dead_deliveries ADD COLUMN replay_id uuid;

CREATE INDEX deliveries_replay_id_idx ON deliveries (replay_id) WHERE replay_id IS NOT NULL;

CREATE INDEX dead_deliveries_replay_id_idx ON dead_deliveries (replay_id) WHERE replay_id IS NOT NULL
"""

SECURITY = """
ALTER TABLE replays ENABLE ROW LEVEL SECURITY;

CREATE POLICY own ON replays TO broker_api, broker_worker USING (tenant_id = (SELECT current_tenant()));

GRANT SELECT, INSERT ON replays TO broker_api, broker_worker;

GRANT UPDATE (state, reason, until_at, until_xact, total, ended_at, due_at) ON replays TO broker_api;

GRANT UPDATE (state, reason, after_xact, after_id, until_xact, total, queued, ended_at, due_at, claimed_until, attempts)
  ON replays TO broker_worker;

GRANT UPDATE (disabled_at, disabled_xact) ON endpoints TO broker_pump
"""

# As in 0003, for the tables that are due rows now: lanes are not, since 0009.
KINDS = "('connections', 'identities', 'topics', 'routes', 'replays', 'digests')"
KINDS_OF_0003 = "('connections', 'identities', 'lanes', 'topics', 'routes')"

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
DROP INDEX deliveries_replay_id_idx, dead_deliveries_replay_id_idx;

ALTER TABLE deliveries DROP COLUMN replay_id;

ALTER TABLE dead_deliveries DROP COLUMN replay_id;

UPDATE deliveries SET next_at = now() WHERE next_at >= '9999-12-31 00:00+00';

ALTER TABLE endpoints DROP COLUMN disabled_at, DROP COLUMN disabled_xact;

DROP TABLE replays
"""


def upgrade() -> None:
    for block in (TABLES, SECURITY):
        for statement in block.split(";\n\n"):
            op.execute(statement)
    for function in (CLAIM, NEXT):
        op.execute(function.format(kinds=KINDS))


def downgrade() -> None:
    for function in (CLAIM, NEXT):
        op.execute(function.format(kinds=KINDS_OF_0003))
    for statement in BACK.split(";\n\n"):
        op.execute(statement)
