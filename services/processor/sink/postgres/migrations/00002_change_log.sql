CREATE TABLE {{log}} (
    seq          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    written_at   timestamptz NOT NULL DEFAULT now(),
    key          text        NOT NULL,
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
    event_id     text        NOT NULL
);

COMMENT ON TABLE {{log}} IS 'Ledgerfeed: every version that was written, in the order of seq; only ever added to, but for its retention';
COMMENT ON COLUMN {{log}}.seq IS 'grows with the version of an entity. A lower one may become visible after a higher one: read by {{after}}';
COMMENT ON COLUMN {{log}}.key IS 'realm/entity/id/version: the same for a change that other sinks get twice';

-- {{begin}} is called by every transaction that adds to the log, before it takes
-- a number. The lock it holds until its end says above which number its own are.
CREATE FUNCTION {{begin}}() RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(
        '{{log}}'::regclass::oid::bigint::bit(32)::int,
        (CASE WHEN is_called THEN last_value ELSE last_value - 1 END)::bit(32)::int)
    FROM {{sequence}};
END $$;

-- {{settled}} is the number up to which nothing can appear any more. A
-- transaction that took a number up to the newest had its lock before that, and
-- if it has none left it is visible. So the order of the two statements counts,
-- and so does that the log is read by a later one. It runs as its owner, that a
-- reader needs no right to the sequence.
CREATE FUNCTION {{settled}}() RETURNS bigint LANGUAGE plpgsql VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    newest bigint;
    below  bigint;
BEGIN
    IF pg_is_in_recovery() THEN
        RAISE EXCEPTION 'a standby does not know which transactions are open: read the change log on the primary';
    END IF;
    SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END INTO newest FROM {{sequence}};
    -- A lock holds the lower 32 bits of a number near the newest, on either side.
    SELECT min(newest + (objid::bigint - newest)::bit(32)::int) INTO below
    FROM pg_locks
    WHERE locktype = 'advisory' AND objsubid = 2 AND classid = '{{log}}'::regclass
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database());
    RETURN least(newest, below);
END $$;

COMMENT ON FUNCTION {{settled}}() IS 'the number up to which the change log is complete';

CREATE FUNCTION {{after}}(after bigint, at_most integer DEFAULT 1000) RETURNS SETOF {{log}} LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    settled bigint;
BEGIN
    IF current_setting('transaction_isolation') NOT LIKE 'read %' THEN
        RAISE EXCEPTION 'read the change log at READ COMMITTED: an older snapshot misses rows';
    END IF;
    settled := {{settled}}();
    RETURN QUERY SELECT * FROM {{log}} WHERE seq > after AND seq <= settled ORDER BY seq LIMIT at_most;
END $$;

COMMENT ON FUNCTION {{after}}(bigint, integer) IS 'the next changes after a number, none left out; call it again with the last seq it gave';

-- It costs a third less time to write than the default, and so pays for the log.
-- A server may be built without; what is stored stays as it is.
DO $$
BEGIN
    ALTER TABLE {{table}} ALTER COLUMN document SET COMPRESSION lz4;
    ALTER TABLE {{log}} ALTER COLUMN document SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
    NULL;
END $$;
