"""How fast the index is, compared with floors and peers in the same run: `scripts/bench`."""
