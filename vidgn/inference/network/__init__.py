"""HTTP with limits: what is fetched, and what is served on this machine."""
