"""One function leases due rows across tenants and returns nothing but ids, tenants and fences."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

CLAIM = """
CREATE FUNCTION claim_due(kind text, most integer, lease interval, only_ids uuid[])
RETURNS TABLE (id uuid, tenant_id uuid, fence bigint, attempts integer)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
  IF kind NOT IN ('connections', 'identities', 'lanes', 'topics', 'routes') THEN
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
CREATE FUNCTION next_due(kind text) RETURNS double precision
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE seconds double precision;
BEGIN
  IF kind NOT IN ('connections', 'identities', 'lanes', 'topics', 'routes') THEN
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


def upgrade() -> None:
    op.execute(CLAIM)
    op.execute(NEXT)
    op.execute("REVOKE ALL ON FUNCTION claim_due, next_due FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION claim_due, next_due TO broker_worker, broker_pump")


def downgrade() -> None:
    op.execute("DROP FUNCTION claim_due, next_due")
