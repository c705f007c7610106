-- One start at a time: CREATE IF NOT EXISTS alone is not safe for two.
SELECT pg_advisory_xact_lock(hashtext('ledgerfeed example inventory'));

-- What is left of each item. Set what you have at the start; below zero is what you owe.
CREATE TABLE IF NOT EXISTS stock (
    realm    text,
    item     text,
    quantity numeric NOT NULL,
    PRIMARY KEY (realm, item)
);

-- The version of each invoice that the stock knows of, and when QuickBooks showed it.
CREATE TABLE IF NOT EXISTS invoice (
    realm   text,
    id      text,
    version bigint NOT NULL,
    read_at timestamptz NOT NULL DEFAULT '-infinity',
    deleted boolean NOT NULL DEFAULT false,
    PRIMARY KEY (realm, id)
);
ALTER TABLE invoice ADD COLUMN IF NOT EXISTS read_at timestamptz NOT NULL DEFAULT '-infinity';
ALTER TABLE invoice ADD COLUMN IF NOT EXISTS deleted boolean NOT NULL DEFAULT false;

-- What each invoice took at that version: the next one is applied as the difference.
CREATE TABLE IF NOT EXISTS taken (
    realm    text,
    invoice  text,
    item     text,
    quantity numeric NOT NULL,
    PRIMARY KEY (realm, invoice, item)
);
