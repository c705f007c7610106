CREATE TABLE {{table}} (
    realm        text        COLLATE "C" NOT NULL,
    entity       text        COLLATE "C" NOT NULL,
    id           text        COLLATE "C" NOT NULL,
    version      bigint      NOT NULL,
    sync_token   text        NOT NULL,
    last_updated timestamptz NOT NULL,
    deleted      boolean     NOT NULL,
    operation    text        NOT NULL,
    document     jsonb,
    learned      text        NOT NULL,
    learned_at   timestamptz NOT NULL,
    merged_into  text        NOT NULL,
    event_id     text        NOT NULL,
    written_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (realm, entity, id)
);

COMMENT ON TABLE {{table}} IS 'Ledgerfeed: the newest version of each QuickBooks entity';
COMMENT ON COLUMN {{table}}.version IS 'LastUpdatedTime in seconds x 1e6 + SyncToken; a tombstone has 999999 in place of the SyncToken. Only ever grows';
COMMENT ON COLUMN {{table}}.deleted IS 'the entity is gone; sync_token is empty and document is null';
COMMENT ON COLUMN {{table}}.document IS 'the entity as the QuickBooks API returned it';
COMMENT ON COLUMN {{table}}.learned IS 'how this version was learned: webhook, cdc, query, replay';
COMMENT ON COLUMN {{table}}.learned_at IS 'when Ledgerfeed heard of this version; written_at less this is how late it was';
COMMENT ON COLUMN {{table}}.merged_into IS 'on the tombstone of a merge, the id that survived';
