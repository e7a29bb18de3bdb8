"""What a drop's columns mean: the feature table, the curated schema, and the errors that name their remedy."""
