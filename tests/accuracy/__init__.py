"""The published tables, measured: what models reach on real records, offline and live."""
