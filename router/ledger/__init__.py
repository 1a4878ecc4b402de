"""The ledger: what every request emitted, as rows of Parquet files that anybody can read."""
