"""From a source into a table: repairs, a verdict on each row, one append."""
