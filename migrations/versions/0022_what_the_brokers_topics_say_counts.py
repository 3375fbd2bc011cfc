"""What a topic of the broker's says counts, also where a topic of a tenant's own said it before.

`event_keys.vouched`: the occurrence came through a topic of the broker's, first or later. `usage_windows` with
`vouched` false now hold all that the parties heard, whoever told of it, and no longer only what came through topics of
the tenants' own.
"""

from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

UP = """
ALTER TABLE event_keys ADD COLUMN vouched boolean NOT NULL DEFAULT true;

GRANT UPDATE (vouched) ON event_keys TO broker_ingest;

INSERT INTO usage_windows
    (grant_id, begins_at, vouched, owner_id, delegate_id, sent, delivered, bounced, complained)
  SELECT grant_id, begins_at, false, owner_id, delegate_id, sent, delivered, bounced, complained
  FROM usage_windows WHERE vouched
  ON CONFLICT (grant_id, begins_at, vouched) DO UPDATE SET
    sent = usage_windows.sent + excluded.sent, delivered = usage_windows.delivered + excluded.delivered,
    bounced = usage_windows.bounced + excluded.bounced, complained = usage_windows.complained + excluded.complained
"""

DOWN = """
UPDATE usage_windows heard SET
    sent = greatest(heard.sent - own.sent, 0), delivered = greatest(heard.delivered - own.delivered, 0),
    bounced = greatest(heard.bounced - own.bounced, 0), complained = greatest(heard.complained - own.complained, 0)
  FROM usage_windows own
  WHERE own.grant_id = heard.grant_id AND own.begins_at = heard.begins_at AND own.vouched AND NOT heard.vouched;

REVOKE UPDATE (vouched) ON event_keys FROM broker_ingest;

ALTER TABLE event_keys DROP COLUMN vouched
"""


def upgrade() -> None:
    for statement in UP.split(";\n\n"):
        op.execute(statement)


def downgrade() -> None:
    for statement in DOWN.split(";\n\n"):
        op.execute(statement)
