ALTER TABLE {{table}} ADD COLUMN sanitized boolean NOT NULL DEFAULT false;
ALTER TABLE {{log}} ADD COLUMN sanitized boolean NOT NULL DEFAULT false;

COMMENT ON COLUMN {{table}}.sanitized IS 'characters of the document that jsonb cannot hold (\u0000, half of a surrogate pair) were replaced by U+FFFD';
COMMENT ON COLUMN {{log}}.sanitized IS 'as in the table';
