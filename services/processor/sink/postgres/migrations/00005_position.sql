CREATE TABLE {{position}} (
    id  text    NOT NULL,
    n   bigint  NOT NULL,
    one boolean NOT NULL DEFAULT true PRIMARY KEY CHECK (one)
) WITH (fillfactor = 10);

INSERT INTO {{position}} (id, n) VALUES (md5(random()::text || clock_timestamp()::text || pg_backend_pid()::text), 0);

COMMENT ON TABLE {{position}} IS 'Ledgerfeed: one row that a processor moves on now and then, so that it notices when the database went back to an earlier state';
COMMENT ON COLUMN {{position}}.n IS 'only ever grows, unless the database was restored';
