"""Many indicators side by side: planned as one query, computed once, read only as far as warm-up needs."""
