CREATE TABLE {{gap}} (
    realm     text        COLLATE "C" NOT NULL,
    entity    text        COLLATE "C" NOT NULL,
    id        text        COLLATE "C" NOT NULL,
    version   bigint      NOT NULL,
    operation text        NOT NULL,
    event_at  timestamptz,
    found_at  timestamptz NOT NULL,
    source    text        NOT NULL,
    verdict   text        NOT NULL,
    late_at   timestamptz,
    PRIMARY KEY (realm, entity, id, version)
);

CREATE INDEX ON {{gap}} (found_at);

COMMENT ON TABLE {{gap}} IS 'Ledgerfeed: changes that a scan found before any webhook told of them';
COMMENT ON COLUMN {{gap}}.operation IS 'create, update or delete; a void or an e-mailing counts as update';
COMMENT ON COLUMN {{gap}}.event_at IS 'when it happened by Intuit''s clock; of a deletion it may be when it was found';
COMMENT ON COLUMN {{gap}}.found_at IS 'when the scan found it; found_at less event_at is how long it was unknown';
COMMENT ON COLUMN {{gap}}.source IS 'what found it: cdc, query';
COMMENT ON COLUMN {{gap}}.verdict IS 'why no webhook told of it first: lost, late, ingress-outage, not-selected, no-webhooks, before-connection, authorisation-lapsed';
COMMENT ON COLUMN {{gap}}.late_at IS 'when its webhook came after all';

CREATE TABLE {{audit}} (
    run        text        NOT NULL,
    realm      text        COLLATE "C" NOT NULL,
    entity     text        COLLATE "C" NOT NULL,
    audited_at timestamptz NOT NULL,
    verdict    text        NOT NULL,
    up_to      timestamptz,
    records    bigint      NOT NULL,
    missing    bigint      NOT NULL,
    stale      bigint      NOT NULL,
    extra      bigint      NOT NULL,
    repaired   bigint      NOT NULL,
    calls      bigint      NOT NULL,
    detail     text        NOT NULL,
    PRIMARY KEY (run, realm, entity)
);

CREATE INDEX ON {{audit}} (realm, entity, audited_at);

COMMENT ON TABLE {{audit}} IS 'Ledgerfeed: verdicts of ledgerfeed audit on what this schema holds';
COMMENT ON COLUMN {{audit}}.verdict IS 'no-gap, gaps, or incomplete: not all could be compared';
COMMENT ON COLUMN {{audit}}.up_to IS 'every change up to then, by Intuit''s clock, was compared';
COMMENT ON COLUMN {{audit}}.records IS 'how many QuickBooks has';
COMMENT ON COLUMN {{audit}}.missing IS 'records that QuickBooks has and the table has not, or has as deleted';
COMMENT ON COLUMN {{audit}}.stale IS 'records of which the table has an older version';
COMMENT ON COLUMN {{audit}}.extra IS 'records that the table has and QuickBooks has not';
