"""One index for a team: machines send the runs of their own indexes to a PostgreSQL, which shows each run once."""
