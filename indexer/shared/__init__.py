"""One index for a team: machines send their runs to one PostgreSQL database, which shows each run once."""
