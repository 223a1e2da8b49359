"""Task suites whose answers can be checked."""
