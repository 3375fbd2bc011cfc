"""A suppression keeps the widest view that was given, and is pushed when it changes, too.

`suppressions.vouched`: a topic of the broker's said it. `suppressions.stamp`: a new id whenever there is something new
to push, along which pushes go. Times that are said to be in the future are taken for now.

`unreckoned`: whether events before a transaction, of the tenant or of an owner that lends to it, were not added up yet.
An erasure waits for that.
"""

from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

UP = """
ALTER TABLE suppressions ADD COLUMN vouched boolean NOT NULL DEFAULT true, ADD COLUMN stamp uuid;

UPDATE suppressions SET stamp = id, last_at = least(last_at, now()), since = least(since, now());

UPDATE recipients SET state_at = least(state_at, now()), last_at = least(last_at, now()) WHERE last_at > now();

ALTER TABLE suppressions ALTER COLUMN stamp SET NOT NULL;

CREATE INDEX suppressions_delegate_id_stamp_idx ON suppressions (delegate_id, stamp);

CREATE FUNCTION unreckoned(until bigint) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
SET enable_seqscan = off SET enable_sort = off SET enable_bitmapscan = off AS $$
  SELECT EXISTS (
    SELECT FROM reckonings r CROSS JOIN LATERAL (
      SELECT e.id FROM events e
      WHERE e.owner_id = r.id AND (e.xact, e.id) > (r.after_xact, r.after_id) AND e.xact < until
      ORDER BY e.xact, e.id LIMIT 1
    ) waiting
    WHERE r.id = current_tenant() OR r.id IN (SELECT g.owner_id FROM grants g WHERE g.delegate_id = current_tenant()))
$$;

REVOKE ALL ON FUNCTION unreckoned FROM PUBLIC;

GRANT EXECUTE ON FUNCTION unreckoned TO broker_worker
"""

DOWN = """
DROP FUNCTION unreckoned;

DROP INDEX suppressions_delegate_id_stamp_idx;

ALTER TABLE suppressions DROP COLUMN stamp, DROP COLUMN vouched
"""


def upgrade() -> None:
    for statement in UP.split(";\n\n"):
        op.execute(statement)


def downgrade() -> None:
    for statement in DOWN.split(";\n\n"):
        op.execute(statement)
