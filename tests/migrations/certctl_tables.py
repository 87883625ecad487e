"""notification_events as certctl, or a hand that helped, may have left it for `migrate` to find."""

from __future__ import annotations

import re

CERTIFICATES = """
    CREATE TABLE managed_certificates (id TEXT PRIMARY KEY, name VARCHAR(255) NOT NULL UNIQUE);
    INSERT INTO managed_certificates SELECT 'mc-' || n, 'cert ' || n FROM generate_series(0, 9) AS n;
"""
FIRST_SCHEMA = """
    CREATE TABLE notification_events (
      id TEXT PRIMARY KEY,
      type VARCHAR(255) NOT NULL,
      certificate_id TEXT{reference},
      channel VARCHAR(255) NOT NULL,
      recipient VARCHAR(255) NOT NULL,
      message TEXT NOT NULL,
      sent_at TIMESTAMPTZ,
      status VARCHAR(50) NOT NULL DEFAULT 'pending',
      error TEXT
    );
    CREATE INDEX idx_notification_events_certificate_id ON notification_events(certificate_id);
    CREATE INDEX idx_notification_events_status ON notification_events(status);
    CREATE INDEX idx_notification_events_type ON notification_events(type);
"""
PLAIN = FIRST_SCHEMA.format(reference="")
REFERENCING = CERTIFICATES + FIRST_SCHEMA.format(
    reference=" REFERENCES managed_certificates(id) ON DELETE CASCADE"
)
RETRY_COLUMNS = """
    ALTER TABLE notification_events
      ADD COLUMN retry_count INTEGER NOT NULL DEFAULT 0,
      ADD COLUMN next_retry_at TIMESTAMPTZ,
      ADD COLUMN last_error TEXT;
"""
RETRY_INDEX = """
    CREATE INDEX idx_notification_events_retry_sweep ON notification_events(next_retry_at)
      WHERE status = 'failed' AND next_retry_at IS NOT NULL;
"""
CREATED_AT = "ALTER TABLE notification_events ADD COLUMN created_at TIMESTAMPTZ NOT NULL DEFAULT NOW();"

MANY_ROWS = """
    INSERT INTO notification_events
      (id, type, certificate_id, channel, recipient, message, sent_at, status, error)
    SELECT 'notif-' || n,
           (ARRAY['ExpirationWarning', 'expiration_warning', 'Revocation', 'homemade'])[1 + n % 4],
           CASE WHEN n % 3 > 0 THEN 'mc-' || n % 10 END,
           (ARRAY['Email', 'email', 'Slack', 'Pager'])[1 + n / 5 % 4],
           'ops-' || n || '@example.com',
           'message ' || n,
           CASE WHEN n % 5 IN (1, 4) THEN TIMESTAMPTZ '2024-01-01' + n * INTERVAL '1 minute' END,
           (ARRAY['pending', 'sent', 'failed', 'dead', 'read'])[1 + n % 5],
           CASE WHEN n % 5 IN (2, 3) THEN 'refused ' || n END
      FROM generate_series(1, 10000) AS n;
"""
ROWS = MANY_ROWS.replace("10000", "500")
# A third of the failed rows stays stranded, without a next retry.
RETRIES = """
    UPDATE notification_events
       SET retry_count = CASE status WHEN 'dead' THEN 4 ELSE 2 END,
           last_error = error,
           next_retry_at = CASE WHEN status = 'failed' AND certificate_id IS NOT NULL
                                THEN TIMESTAMPTZ '2025-06-01 12:00:00.123456+00' END
     WHERE status IN ('failed', 'dead');
"""

# What is there before the first `migrate`. The last four are half upgraded, by hand or by an interruption.
STATES = {
    "nothing": "",
    "first schema": PLAIN + ROWS,
    "first schema with certificates": REFERENCING + ROWS,
    "000016": REFERENCING + RETRY_COLUMNS + RETRY_INDEX + MANY_ROWS + RETRIES,
    "000016 and created_at": REFERENCING + RETRY_COLUMNS + RETRY_INDEX + CREATED_AT + ROWS + RETRIES,
    "no rows": REFERENCING + RETRY_COLUMNS + RETRY_INDEX,
    "no retry index": REFERENCING + RETRY_COLUMNS + ROWS + RETRIES,
    "one retry column, two indexes less": REFERENCING
    + "ALTER TABLE notification_events ADD COLUMN retry_count INTEGER NOT NULL DEFAULT 0;"
    + "DROP INDEX idx_notification_events_status, idx_notification_events_type;"
    + ROWS,
    "columns without defaults": REFERENCING
    + RETRY_COLUMNS
    + CREATED_AT
    + ROWS
    + RETRIES
    + "ALTER TABLE notification_events ALTER COLUMN status DROP DEFAULT,"
    + "  ALTER COLUMN retry_count DROP DEFAULT, ALTER COLUMN created_at DROP DEFAULT;",
    "columns without NOT NULL": REFERENCING
    + ROWS
    + "ALTER TABLE notification_events ADD COLUMN retry_count INTEGER, ADD COLUMN created_at TIMESTAMPTZ;"
    + "UPDATE notification_events SET retry_count = 3, created_at = '2024-02-29' WHERE status = 'failed';",
}


def _unless_there(script: str) -> str:
    return re.sub("CREATE TABLE|CREATE INDEX|ADD COLUMN", r"\g<0> IF NOT EXISTS", script)


# certctl's own migrations, those of up to 000047 that know the table; it runs each of them once.
MIGRATIONS = {
    "000001": _unless_there(REFERENCING),
    "000016": _unless_there(RETRY_COLUMNS + RETRY_INDEX),
    "000017": _unless_there(CREATED_AT),
}

# The only statements that certctl runs, in its own words.
INSERT = """
    INSERT INTO notification_events
      (id, type, certificate_id, channel, recipient, message, sent_at, status, error)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
"""
# Since its migration 000017.
INSERT_WITH_TIME = """
    INSERT INTO notification_events (
      id, type, certificate_id, channel, recipient, message, sent_at, status, error, created_at
    ) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
    RETURNING id
"""
UPDATE_STATUS = "UPDATE notification_events SET status = %s, sent_at = %s WHERE id = %s"
UPDATE_ALL = """
    UPDATE notification_events
       SET type = %s, certificate_id = %s, channel = %s, recipient = %s, message = %s,
           sent_at = %s, status = %s, error = %s
     WHERE id = %s
"""
DELETE_CERTIFICATE = "DELETE FROM managed_certificates WHERE id = %s"
