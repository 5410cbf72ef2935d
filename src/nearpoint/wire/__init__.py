"""HTTP messages, names and addresses; the one HTTP server, the one client, TLS."""
