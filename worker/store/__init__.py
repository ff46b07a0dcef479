"""What lies on the server: knows Redis, and nothing of what the data mean."""
