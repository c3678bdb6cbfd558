"""What a table held at a time: its rows as known then, how far it has come, and snapshots of it."""
