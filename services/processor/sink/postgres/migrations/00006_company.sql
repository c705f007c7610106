CREATE TABLE {{company}} (
    realm             text        COLLATE "C" NOT NULL PRIMARY KEY,
    name              text        NOT NULL,
    legal_name        text        NOT NULL,
    country           text        NOT NULL,
    home_currency     text        NOT NULL,
    fiscal_year_start text        NOT NULL,
    time_zone_offset  text        NOT NULL,
    read_at           timestamptz NOT NULL
);

COMMENT ON TABLE {{company}} IS 'Ledgerfeed: the QuickBooks companies; an empty text is not known';
COMMENT ON COLUMN {{company}}.country IS 'as QuickBooks says it: US';
COMMENT ON COLUMN {{company}}.home_currency IS 'from Preferences: USD';
COMMENT ON COLUMN {{company}}.fiscal_year_start IS 'first month of the fiscal year: January';
COMMENT ON COLUMN {{company}}.time_zone_offset IS 'of the times in CompanyInfo: -08:00';
COMMENT ON COLUMN {{company}}.read_at IS 'when QuickBooks last said so';
COMMENT ON COLUMN {{gap}}.verdict IS 'why no webhook told of it first: lost, late, ingress-outage, not-selected, deselected, no-webhooks, before-connection, authorisation-lapsed; restored where a sink held it as deleted by mistake';
