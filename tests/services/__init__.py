"""Real servers that tests start on loopback: PostgreSQL and Redis."""
