"""An erasure has pumps let go of what they hold in memory, and is done once none can send it any more.

`lanes.recalls`: how often that was asked for; a pump is told whenever it prolongs its lease. `erasures.lanes`: lanes
that had a delivery of something blanked; `recalled_at`: when they were recalled.

`lanes_with`: lanes that have a delivery of one of these events of the caller's tenant, for both parties.
`recall_lanes`: asks whoever holds these lanes.
"""

from alembic import op

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None

UP = """
ALTER TABLE lanes ADD COLUMN recalls bigint NOT NULL DEFAULT 0;

ALTER TABLE erasures ADD COLUMN lanes uuid[] NOT NULL DEFAULT '{}', ADD COLUMN recalled_at timestamptz,
  DROP CONSTRAINT erasures_stage_check, ADD CONSTRAINT erasures_stage_check
    CHECK (stage IN ('owned', 'lent', 'in_flight', 'attempts', 'quarantine', 'answers', 'recipients'));

CREATE FUNCTION lanes_with(ids uuid[], ats timestamptz[]) RETURNS SETOF uuid
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE mine uuid[]; places uuid[];
BEGIN
  SELECT array_agg(DISTINCT e.id), array_agg(DISTINCT p.id) INTO mine, places
  FROM unnest(ids, ats) AS wanted (id, at) JOIN events e ON e.at = wanted.at AND e.id = wanted.id
  LEFT JOIN endpoints p ON p.tenant_id IN (e.owner_id, e.delegate_id)
  WHERE current_tenant() IN (e.owner_id, e.delegate_id);
  RETURN QUERY SELECT DISTINCT d.endpoint_id FROM deliveries d
  WHERE d.endpoint_id = ANY (places) AND d.event_id = ANY (mine);
END
$$;

CREATE FUNCTION recall_lanes(ids uuid[]) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
  WITH held AS MATERIALIZED (SELECT l.id FROM lanes l WHERE l.id = ANY (ids) ORDER BY l.id FOR NO KEY UPDATE),
  recalled AS (UPDATE lanes l SET recalls = l.recalls + 1 FROM held WHERE l.id = held.id RETURNING 1)
  SELECT count(*) FROM recalled
$$;

REVOKE ALL ON FUNCTION lanes_with, recall_lanes FROM PUBLIC;

GRANT EXECUTE ON FUNCTION lanes_with, recall_lanes TO broker_worker;

GRANT UPDATE (lanes, recalled_at) ON erasures TO broker_worker
"""

DOWN = """
REVOKE UPDATE (lanes, recalled_at) ON erasures FROM broker_worker;

DROP FUNCTION lanes_with, recall_lanes;

UPDATE erasures SET stage = 'attempts' WHERE stage = 'in_flight';

ALTER TABLE erasures DROP COLUMN lanes, DROP COLUMN recalled_at,
  DROP CONSTRAINT erasures_stage_check, ADD CONSTRAINT erasures_stage_check
    CHECK (stage IN ('owned', 'lent', 'attempts', 'quarantine', 'answers', 'recipients'));

ALTER TABLE lanes DROP COLUMN recalls
"""


def upgrade() -> None:
    for statement in UP.split(";\n\n"):
        op.execute(statement)


def downgrade() -> None:
    for statement in DOWN.split(";\n\n"):
        op.execute(statement)
