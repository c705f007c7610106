-- Rows of before have neither: their next change, of any version, sets both.
ALTER TABLE {{table}} ADD COLUMN content_hash text, ADD COLUMN read_at timestamptz;

COMMENT ON COLUMN {{table}}.version IS 'LastUpdatedTime in seconds x 1e6 + SyncToken; a tombstone has 999999 in place of the SyncToken. Grows, but for a tombstone that was wrong: learned is restored then';
COMMENT ON COLUMN {{table}}.content_hash IS 'hash of the document: two states may share a version, as a balance moves without its SyncToken';
COMMENT ON COLUMN {{table}}.read_at IS 'when QuickBooks returned this state, by its clock; of two documents of one version the later one counts';
COMMENT ON COLUMN {{table}}.learned IS 'how this version was learned: webhook, cdc, query, replay, restored';
ALTER TABLE {{audit}} ADD COLUMN differs bigint NOT NULL DEFAULT 0;

COMMENT ON COLUMN {{audit}}.differs IS 'records of which the table has another document of the same version';
COMMENT ON COLUMN {{gap}}.source IS 'what found it: cdc, query, restored';
COMMENT ON COLUMN {{gap}}.verdict IS 'why no webhook told of it first: lost, late, ingress-outage, not-selected, no-webhooks, before-connection, authorisation-lapsed; restored where a sink held it as deleted by mistake';
COMMENT ON COLUMN {{log}}.key IS 'realm/entity/id/version/content_hash: the same for a change that other sinks get twice';
