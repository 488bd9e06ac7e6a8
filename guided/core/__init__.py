"""The core: processes, particles, guidance. It knows no reward and no disk."""
