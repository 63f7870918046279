"""What people and programs see of a run: listeners to one set of events."""
