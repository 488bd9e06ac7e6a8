"""What several rewards share, and the readers of published weights."""
