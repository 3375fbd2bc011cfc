"""What feedback is attributed by: From addresses of the terms, the configuration set of a topic, and own mail.

`grants.from_addresses` follows the terms by itself, so that ingest reads it without reading the terms. An owner may
hear of the mail of its own account from an identity. Ingest notes when a route was last heard, and that mail was sent
after a grant had ended. What is in quarantine goes with the events of its day.
"""

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

TABLES = """
ALTER TABLE grants ADD COLUMN from_addresses jsonb GENERATED ALWAYS AS (terms -> 'from_addresses'::text) STORED;

ALTER TABLE identities ADD COLUMN own_mail boolean NOT NULL DEFAULT false
"""

SECURITY = """
GRANT SELECT (from_addresses, not_before, expires_at) ON grants TO broker_ingest;

GRANT SELECT (own_mail, removed_at) ON identities TO broker_ingest;

GRANT SELECT (heard_at, state, due_at) ON routes TO broker_ingest;

GRANT UPDATE (heard_at) ON routes TO broker_ingest;

CREATE POLICY ingest_write ON audit FOR INSERT TO broker_ingest
  WITH CHECK (action = 'grant.sent_after_end' AND actor = 'system:ingest');

GRANT INSERT ON audit TO broker_ingest;

CREATE POLICY forget ON quarantine TO broker_pump USING (true);

GRANT SELECT (id), DELETE ON quarantine TO broker_pump
"""

BACK = """
REVOKE SELECT (id), DELETE ON quarantine FROM broker_pump;

DROP POLICY forget ON quarantine;

REVOKE INSERT ON audit FROM broker_ingest;

DROP POLICY ingest_write ON audit;

REVOKE UPDATE (heard_at) ON routes FROM broker_ingest;

REVOKE SELECT (heard_at, state, due_at) ON routes FROM broker_ingest;

REVOKE SELECT (removed_at) ON identities FROM broker_ingest;

REVOKE SELECT (not_before, expires_at) ON grants FROM broker_ingest;

ALTER TABLE identities DROP COLUMN own_mail;

ALTER TABLE grants DROP COLUMN from_addresses
"""


def upgrade() -> None:
    for block in (TABLES, SECURITY):
        for statement in block.split(";\n\n"):
            op.execute(statement)


def downgrade() -> None:
    for statement in BACK.split(";\n\n"):
        op.execute(statement)
