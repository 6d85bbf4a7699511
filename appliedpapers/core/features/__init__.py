"""Tables of mixed columns as numbers: roles of columns, vocabularies, encoded rows in memory and on disk."""
