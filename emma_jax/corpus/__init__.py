"""Building a corpus: sources in; cleaned, deduplicated and split Parquet shards and `manifest.json` out."""
