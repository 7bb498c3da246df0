-- Who published (the Call-ID, the flow as text if it came straight from the device, the instance registered by that flow), so that a device that has
-- forgotten its entity-tag replaces what it left behind; and when the document means something else by time alone (milliseconds, separated by
-- spaces). A release before this one leaves them as they were, which is as if unknown.
ALTER TABLE publication ADD COLUMN call_id TEXT NOT NULL DEFAULT '';
ALTER TABLE publication ADD COLUMN source TEXT NOT NULL DEFAULT '';
ALTER TABLE publication ADD COLUMN instance TEXT;
ALTER TABLE publication ADD COLUMN turns TEXT NOT NULL DEFAULT '';
ALTER TABLE publication ADD COLUMN is_restamped BIGINT NOT NULL DEFAULT 0;
