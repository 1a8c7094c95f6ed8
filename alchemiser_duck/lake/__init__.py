"""S3: key layout, object store, mirror of objects on disk, Parquet, leases, credentials and I/O counts."""
