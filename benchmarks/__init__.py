"""How fast the index is, beside floors and peers measured in the same run: `scripts/bench`."""
