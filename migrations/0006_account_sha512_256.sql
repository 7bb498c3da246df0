-- SHA-512/256 beside the other hashes, from the next password on. A release before this one sets passwords without it, so it is believed
-- only beside the SHA-256 hash that it was made with.
ALTER TABLE account ADD COLUMN ha1_sha512_256 TEXT;
ALTER TABLE account ADD COLUMN ha1_sha512_256_at TEXT;
ALTER TABLE account ADD COLUMN ha1_sha512_256_beside TEXT;
