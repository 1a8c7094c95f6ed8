"""DuckDB: sessions, connections, error translation, the catalogue of .sql files, linter and checker."""
