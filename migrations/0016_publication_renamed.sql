-- Which tuples of the document stand under another id in the composed one, as bits by place. None of those of a release before this one.
ALTER TABLE publication ADD COLUMN renamed BIGINT NOT NULL DEFAULT 0;
