"""What each grant's mail comes to, the breaker's state, and grants that are suspended for a while.

`reckonings` is a due row for each owner, under the owner's id: how far its events were added up, as a position in the
order of its feed. It has no foreign key: feedback is not refused for its sake. `asleep`: nobody looks any more, and
whoever stores an event has to wake it. While it is awake, those who store do not touch it. So it does not fall asleep
at once when there is nothing left: it is put to sleep, and looked at once more when all statements have ended that may
have found it awake.

`usage_days` count events by grant, UTC day and name; `usage_windows` hold what rates are taken of, by quarter of an
hour and by who told of it (`vouched`: a topic of the broker's); they go after a day. `breakers` say what each breaker
said last.
"""

from alembic import op

revision = "0021"
down_revision = "0019"
branch_labels = None
depends_on = None

TABLES = """
ALTER TABLE grants
  ADD COLUMN suspended_at timestamptz,
  ADD COLUMN suspended_by text CONSTRAINT grants_suspended_by_check CHECK (suspended_by IN ('owner', 'breaker')),
  ADD COLUMN suspension jsonb,
  ADD COLUMN resumed_at timestamptz;

CREATE TABLE reckonings (
  id uuid PRIMARY KEY,
  tenant_id uuid NOT NULL CONSTRAINT reckonings_tenant_id_check CHECK (tenant_id = id),
  after_xact bigint NOT NULL DEFAULT 0,
  after_id uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
  asleep boolean NOT NULL DEFAULT false,
  due_at timestamptz,
  claimed_until timestamptz,
  fence bigint NOT NULL DEFAULT 0,
  attempts integer NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

CREATE INDEX reckonings_due_at_idx ON reckonings (due_at) WHERE due_at IS NOT NULL;

CREATE TABLE usage_days (
  grant_id uuid NOT NULL REFERENCES grants (id),
  day date NOT NULL,
  name text NOT NULL,
  owner_id uuid NOT NULL,
  delegate_id uuid NOT NULL,
  number bigint NOT NULL,
  PRIMARY KEY (grant_id, day, name)
) WITH (fillfactor = 70);

CREATE TABLE usage_windows (
  grant_id uuid NOT NULL REFERENCES grants (id),
  begins_at timestamptz NOT NULL,
  vouched boolean NOT NULL,
  owner_id uuid NOT NULL,
  delegate_id uuid NOT NULL,
  sent bigint NOT NULL,
  delivered bigint NOT NULL,
  bounced bigint NOT NULL,
  complained bigint NOT NULL,
  PRIMARY KEY (grant_id, begins_at, vouched)
) WITH (fillfactor = 70);

CREATE TABLE breakers (
  grant_id uuid PRIMARY KEY REFERENCES grants (id),
  owner_id uuid NOT NULL,
  delegate_id uuid NOT NULL,
  state text NOT NULL CONSTRAINT breakers_state_check CHECK (state IN ('ok', 'warned', 'tripped')),
  why jsonb NOT NULL,
  changed_at timestamptz NOT NULL
)
"""

SECURITY = """
ALTER TABLE reckonings ENABLE ROW LEVEL SECURITY;

ALTER TABLE usage_days ENABLE ROW LEVEL SECURITY;

ALTER TABLE usage_windows ENABLE ROW LEVEL SECURITY;

ALTER TABLE breakers ENABLE ROW LEVEL SECURITY;

CREATE POLICY own ON reckonings TO broker_worker USING (tenant_id = (SELECT current_tenant()));

CREATE POLICY ingest ON reckonings TO broker_ingest USING (true);

CREATE POLICY parties ON usage_days FOR SELECT TO broker_api
  USING ((SELECT current_tenant()) IN (owner_id, delegate_id));

CREATE POLICY parties ON usage_windows FOR SELECT TO broker_api
  USING ((SELECT current_tenant()) IN (owner_id, delegate_id));

CREATE POLICY parties ON breakers FOR SELECT TO broker_api USING ((SELECT current_tenant()) IN (owner_id, delegate_id));

CREATE POLICY own ON usage_days TO broker_worker USING (owner_id = (SELECT current_tenant()));

CREATE POLICY own ON usage_windows TO broker_worker USING (owner_id = (SELECT current_tenant()));

CREATE POLICY own ON breakers TO broker_worker USING (owner_id = (SELECT current_tenant()));

GRANT SELECT (id, asleep), INSERT (id, tenant_id, due_at), UPDATE (asleep, due_at) ON reckonings TO broker_ingest;

GRANT SELECT ON reckonings TO broker_worker;

GRANT UPDATE (after_xact, after_id, asleep, due_at, claimed_until, attempts) ON reckonings TO broker_worker;

GRANT SELECT ON usage_days, usage_windows, breakers TO broker_api;

GRANT SELECT, INSERT, UPDATE ON usage_days, breakers TO broker_worker;

GRANT SELECT, INSERT, UPDATE, DELETE ON usage_windows TO broker_worker;

GRANT UPDATE (suspended_at, suspended_by, suspension, resumed_at) ON grants TO broker_api, broker_worker
"""

# As in 0010, with one more table of due rows.
KINDS = "('connections', 'identities', 'topics', 'routes', 'replays', 'digests', 'reckonings')"
KINDS_OF_0010 = "('connections', 'identities', 'topics', 'routes', 'replays', 'digests')"

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
DROP TABLE breakers, usage_windows, usage_days, reckonings;

ALTER TABLE grants
  DROP COLUMN suspended_at, DROP COLUMN suspended_by, DROP COLUMN suspension, DROP COLUMN resumed_at
"""


def upgrade() -> None:
    for block in (TABLES, SECURITY):
        for statement in block.split(";\n\n"):
            op.execute(statement)
    for function in (CLAIM, NEXT):
        op.execute(function.format(kinds=KINDS))


def downgrade() -> None:
    for function in (CLAIM, NEXT):
        op.execute(function.format(kinds=KINDS_OF_0010))
    for statement in BACK.split(";\n\n"):
        op.execute(statement)
