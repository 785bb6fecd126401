"""What a target repository is: its files, artifacts, services and traits. Reads, never writes."""
