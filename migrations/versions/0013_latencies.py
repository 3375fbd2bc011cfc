"""The latency ledger, tallies of what the processes did, and days that are dropped behind.

`latencies` hold one histogram per tenant and hour, summed in every few seconds; `latency_totals` is the one row that
sums all of them and never shrinks, since Prometheus wants counters that only grow. None of them has a foreign key: what
is measured must not be refused.

A day of events is dropped only when nothing pending or dead refers to it. Whatever the functions are asked, they leave
the last 25 days alone: SNS may bring a message again for 23 days (SNS Developer Guide, sns-message-delivery-retries).
"""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE latencies (
  tenant_id uuid NOT NULL,
  hour timestamptz NOT NULL,
  ses_to_received integer[] NOT NULL,
  received_to_committed integer[] NOT NULL,
  committed_to_attempted integer[] NOT NULL,
  attempted_to_accepted integer[] NOT NULL,
  seconds double precision[] NOT NULL,
  total bigint NOT NULL,
  PRIMARY KEY (tenant_id, hour)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);

CREATE INDEX latencies_hour_idx ON latencies (hour);

CREATE TABLE latency_totals (
  id smallint PRIMARY KEY CONSTRAINT latency_totals_id_check CHECK (id = 1),
  counts bigint[] NOT NULL,
  seconds double precision[] NOT NULL
);

CREATE TABLE tallies (
  name text NOT NULL,
  label text NOT NULL,
  value bigint NOT NULL,
  PRIMARY KEY (name, label)
);

ALTER TABLE deliveries ADD COLUMN first_at timestamptz
"""

# What is updated all the time keeps room on its pages, so that a new row version stays beside the old one and touches
# no index; small tables that churn are cleaned before they grow.
STORAGE = """
ALTER TABLE delivery_counts SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0,
  autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);

ALTER TABLE lanes SET
  (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);

ALTER TABLE endpoint_secrets SET (fillfactor = 70);

ALTER TABLE endpoints SET (fillfactor = 90);

ALTER TABLE dead_deliveries SET (autovacuum_vacuum_scale_factor = 0.05)
"""

SECURITY = """
ALTER TABLE latencies ENABLE ROW LEVEL SECURITY;

ALTER TABLE latency_totals ENABLE ROW LEVEL SECURITY;

ALTER TABLE tallies ENABLE ROW LEVEL SECURITY;

CREATE POLICY own ON latencies FOR SELECT TO broker_api USING (tenant_id = (SELECT current_tenant()));

CREATE POLICY pump ON latencies TO broker_pump USING (true);

CREATE POLICY pump ON latency_totals TO broker_pump USING (true);

CREATE POLICY pump ON tallies TO broker_pump USING (true);

GRANT SELECT ON latencies TO broker_api;

GRANT SELECT, INSERT, UPDATE, DELETE ON latencies TO broker_pump;

GRANT SELECT, INSERT, UPDATE ON latency_totals, tallies TO broker_pump;

GRANT UPDATE (first_at) ON deliveries TO broker_pump;

GRANT DELETE ON dead_deliveries TO broker_pump
"""

GUARD = """  IF parent NOT IN ('events', 'attempts', 'event_keys') THEN
    RAISE EXCEPTION 'no table of days is called %', parent;
  END IF;
  IF before IS NULL OR before > current_date - 25 THEN
    RAISE EXCEPTION 'what is younger than 25 days is kept, whatever is asked for';
  END IF;
"""

# One partition for each call, and so for each transaction: DROP locks the parent against everybody. It waits for that
# lock a fifth of a second at most, since those who come later wait behind it; who calls tries again another time.
DROP_DAYS = """
CREATE FUNCTION drop_days(parent text, before date) RETURNS date
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE oldest date;
BEGIN
  -- guard
  IF NOT pg_try_advisory_xact_lock(hashtextextended('drop days', 45)) THEN
    RETURN NULL;
  END IF;
  SELECT min(d.day) INTO oldest
  FROM (
    SELECT to_date(right(c.relname, 8), 'YYYYMMDD') AS day
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = to_regclass(parent) AND c.relname ~ ('^' || parent || '_[0-9]{8}$')
  ) d
  WHERE d.day < before AND (parent <> 'events' OR NOT (
    EXISTS (SELECT FROM deliveries q WHERE q.event_at >= d.day AND q.event_at < d.day + 1)
    OR EXISTS (SELECT FROM dead_deliveries q WHERE q.event_at >= d.day AND q.event_at < d.day + 1)));
  IF oldest IS NOT NULL THEN
    PERFORM set_config('lock_timeout', '200ms', true);
    EXECUTE format('DROP TABLE %I', parent || '_' || to_char(oldest, 'YYYYMMDD'));
  END IF;
  RETURN oldest;
END
$$
"""

# What lies in no day's partition goes by the time in its id (UUIDv7: 48 bits of milliseconds), which is when it came:
# a click on a mail of last year has a key of last year, and may still come twice.
DROP_ASTRAY = """
CREATE FUNCTION drop_astray(parent text, before date, most integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE dropped integer;
BEGIN
  -- guard
  EXECUTE format(
    'DELETE FROM %1$I WHERE ctid = ANY (ARRAY(SELECT d.ctid FROM %1$I d WHERE d.%2$I < $1 AND ($3 OR NOT (
       EXISTS (SELECT FROM deliveries q WHERE q.event_id = d.%2$I)
       OR EXISTS (SELECT FROM dead_deliveries q WHERE q.event_id = d.%2$I))) LIMIT $2))',
    parent || '_default', CASE parent WHEN 'event_keys' THEN 'event_id' ELSE 'id' END)
  USING rpad(lpad(to_hex((extract(epoch FROM before::timestamptz) * 1000)::bigint), 12, '0'), 32, '0')::uuid,
    most, parent <> 'events';
  GET DIAGNOSTICS dropped = ROW_COUNT;
  RETURN dropped;
END
$$
"""

COUNT_ASTRAY = """
CREATE FUNCTION count_astray() RETURNS TABLE (parent text, number bigint)
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
  SELECT 'events', count(*) FROM events_default
  UNION ALL SELECT 'attempts', count(*) FROM attempts_default
  UNION ALL SELECT 'event_keys', count(*) FROM event_keys_default
$$
"""

RIGHTS = """
REVOKE ALL ON FUNCTION drop_days, drop_astray, count_astray FROM PUBLIC;

GRANT EXECUTE ON FUNCTION drop_days, drop_astray, count_astray TO broker_pump
"""

BACK = """
DROP FUNCTION drop_days, drop_astray, count_astray;

REVOKE DELETE ON dead_deliveries FROM broker_pump;

ALTER TABLE deliveries DROP COLUMN first_at;

DROP TABLE tallies, latency_totals, latencies;

ALTER TABLE delivery_counts RESET
  (fillfactor, autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold, autovacuum_vacuum_cost_delay);

ALTER TABLE lanes RESET
  (autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold, autovacuum_vacuum_cost_delay);

ALTER TABLE endpoint_secrets RESET (fillfactor);

ALTER TABLE endpoints RESET (fillfactor);

ALTER TABLE dead_deliveries RESET (autovacuum_vacuum_scale_factor)
"""


def upgrade() -> None:
    for block in (TABLES, STORAGE, SECURITY):
        for statement in block.split(";\n\n"):
            op.execute(statement)
    for function in (DROP_DAYS, DROP_ASTRAY, COUNT_ASTRAY):
        op.execute(function.replace("  -- guard\n", GUARD))
    for statement in RIGHTS.split(";\n\n"):
        op.execute(statement)


def downgrade() -> None:
    for statement in BACK.split(";\n\n"):
        op.execute(statement)
