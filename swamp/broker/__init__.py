"""Redis: every key, the server functions, users, and the embedded server."""
